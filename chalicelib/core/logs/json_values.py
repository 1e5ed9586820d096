"""Values in JSON logs. One that cannot be read counts as absent, so that no client can hide a request."""

import json
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""Exceptions that a msgspec decoder raises for bad input."""

T = TypeVar("T", bound=msgspec.Struct)

Flat = str | int | float | None
"""A value that is written as text or as a number, depending on the program that writes the log."""


def parsed(text: bytes) -> dict[str, Any] | None:
    """Returns the object that ``text`` spells, with bytes that are not UTF-8 replaced; None if it spells none."""
    try:
        content = json.loads(text.decode("utf-8", "replace"), strict=False)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def salvaged(record_type: type[T], members: Mapping[str, Any]) -> T:
    """Returns the record in an object of unusual form; each value of an unexpected type counts as absent.

    Fields of ``record_type`` without a default accept None.
    """
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(record_type):
        try:
            values[field.name] = msgspec.convert(plain_text(members.get(field.encode_name)), field.type)
        except msgspec.ValidationError:
            if field.required:
                values[field.name] = None
    return record_type(**values)


def plain_text(value: Any) -> Any:
    """Returns text with its lone surrogates replaced, and anything else as it is."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def flat_bytes(value: Flat) -> bytes:
    """Returns a value as a line would hold it; ``-`` if it is absent.

    >>> flat_bytes("a b"), flat_bytes(1734528645492.0), flat_bytes(None)
    (b'a b', b'1734528645492', b'-')
    """
    if value is None:
        return b"-"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).encode("utf-8", "replace")
