"""Fields of a JSON file, checked one by one as they are read: type, range, allowed values. Standard library only."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from semindex.errors import UserError


@dataclass(frozen=True)
class Field:
    """What a field may hold: `fits` tells, `expected` says it to the user; one not required may be absent."""

    fits: Callable[[Any], bool]
    expected: str
    required: bool = True

    def optional(self) -> "Field":
        """Return the same for a field that may be absent."""
        return Field(self.fits, self.expected, False)

    def or_none(self) -> "Field":
        """Return the same for a field that may be null."""
        return Field(lambda value: value is None or self.fits(value), f"{self.expected}, or null", self.required)


def whole(low: int, high: int) -> Field:
    """A whole number from low to high."""
    return Field(lambda value: type(value) is int and low <= value <= high, f"a whole number from {low} to {high}")


def real(low: float, high: float) -> Field:
    """A finite number from low to high."""
    return Field(lambda value: type(value) in (int, float) and math.isfinite(value) and low <= value <= high,
                 f"a number from {low:g} to {high:g}")


def text() -> Field:
    """Any text."""
    return Field(lambda value: isinstance(value, str), "a text")


def one_of(*values: str) -> Field:
    """One of some texts."""
    return Field(lambda value: isinstance(value, str) and value in values,
                 "one of " + ", ".join(value or '""' for value in values))


def truth() -> Field:
    """True or false."""
    return Field(lambda value: isinstance(value, bool), "true or false")


def list_of(part: Field) -> Field:
    """A list of equal parts."""
    return Field(lambda value: isinstance(value, list) and all(map(part.fits, value)), f"a list, each {part.expected}")


def mapping_of(part: Field) -> Field:
    """An object whose values are equal parts."""
    return Field(lambda value: isinstance(value, dict) and all(map(part.fits, value.values())),
                 f"an object, each value {part.expected}")


def file_names(part: Field) -> Field:
    """An object whose names are those of files beside it, not of other directories."""
    return Field(lambda value: mapping_of(part).fits(value) and all(map(file_name().fits, value)),
                 f"an object of file names without a directory, each value {part.expected}")


def paths_below(part: Field) -> Field:
    """An object whose names are those of files in the directory or in folders of it, `folder/file`."""
    return Field(lambda value: mapping_of(part).fits(value)
                 and all(all(map(file_name().fits, name.split("/"))) for name in value),
                 f"an object of file names within the directory, each value {part.expected}")


def file_name() -> Field:
    """The name of a file beside it."""
    return Field(
        lambda value: isinstance(value, str) and value not in ("", ".", "..") and not set(value) & set("/\\\0"),
        "a file name without a directory")


def object_of(fields: Mapping[str, Field], others: bool = False) -> Field:
    """An object with fields of its own; others: whether it may have more."""
    return Field(lambda value: isinstance(value, dict) and not fault(value, fields, others),
                 "an object of " + ", ".join(fields))


def shown(value: Any) -> str:
    """Return a value as the file has it, cut to one short line."""
    content = json.dumps(value, ensure_ascii=False)
    return content if len(content) <= 60 else f"{content[:57]}..."


def fault(content: Mapping[str, Any], fields: Mapping[str, Field], others: bool) -> str:
    """Return what is wrong with an object, '' where nothing is. others: whether it may have more fields."""
    for name, field in fields.items():
        if name not in content:
            if field.required:
                return f"the field {name} is missing, expected {field.expected}"
        elif not field.fits(content[name]):
            return f"{name} is {shown(content[name])}, expected {field.expected}"
    unknown = [name for name in content if name not in fields]
    if unknown and not others:
        return f"the field {shown(unknown[0])} is unknown; known are {', '.join(fields)}"
    return ""


def read_json(path: str, advice: str = "") -> Any:
    """Return what a JSON file holds; UserError where it is none. advice: what to do about it."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        raise UserError(f"{path}: missing{_also(advice)}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged ({error}){_also(advice)}") from None


def read_fields(path: str, fields: Mapping[str, Field], others: bool = False, advice: str = "",
                newest: int | None = None) -> dict[str, Any]:
    """Return the object of a JSON file, its fields checked; see check_fields."""
    return check_fields(path, read_json(path, advice), fields, others, advice, newest)


def check_fields(path: str, content: Any, fields: Mapping[str, Field], others: bool = False, advice: str = "",
                 newest: int | None = None) -> dict[str, Any]:
    """Return what was read from a JSON file once it is an object with such fields.

    others: whether it may have fields that are not named; newest: the newest `format` that is understood.
    Raises UserError that names the file, the field, what was found and what is allowed.
    """
    if not isinstance(content, dict):
        raise UserError(f"{path}: damaged (it holds {shown(content)} instead of an object){_also(advice)}")
    version = content.get("format")
    if newest is not None and type(version) is int and version > newest:
        raise UserError(f"{path}: written by a newer version of this project (format {version})")
    if wrong := fault(content, fields, others):
        raise UserError(f"{path}: {wrong}{_also(advice)}")
    return content


def _also(advice: str) -> str:
    return f"; {advice}" if advice else ""
