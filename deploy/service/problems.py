"""Errors as every endpoint gives them."""

from fastapi.responses import JSONResponse


def problem(status: int, text: str, **headers: str) -> JSONResponse:
    """Return an error as every endpoint gives it."""
    return JSONResponse({"error": text, "status": status}, status, headers=headers)
