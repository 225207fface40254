"""Numbers of things in messages."""


def counted(number: int, thing: str, several: str = "") -> str:
    """Return '1 text', '2 texts', '0 texts'. several: the plural, where it is more than an s behind the singular."""
    return f"{number} {thing if number == 1 else several or thing + 's'}"


def verb(number: int, one: str, several: str) -> str:
    """Return the form of a verb that goes with a number: verb(1, 'reaches', 'reach')."""
    return one if number == 1 else several
