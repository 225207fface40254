"""The one exception for mistakes of the user. Standard library only."""


class UserError(Exception):
    """A mistake that the user can mend: printed as one line `error: ...`, exit status 2, no traceback."""
