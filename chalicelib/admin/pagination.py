"""Pages of long lists. A cursor says after which entry a page starts, so that changes in between shift nothing."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from chalicelib.admin.errors import Invalid, fault

_T = TypeVar("_T")


def write_cursor(place: Sequence[str | int]) -> str:
    """The text that stands for a place in a list.

    >>> read_cursor(write_cursor([7, "192.0.2.0/24"]), [int, str])
    [7, '192.0.2.0/24']
    """
    return urlsafe_b64encode(json.dumps(place).encode()).rstrip(b"=").decode()


def read_cursor(cursor: str, types: Sequence[type]) -> list[Any]:
    """Raises Invalid unless the cursor was written for a list of the same order."""
    try:
        place = json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, RecursionError):
        place = None
    if not isinstance(place, list) or list(map(type, place)) != list(types):
        raise Invalid.of([fault("query", "cursor", cursor, "'next' of the page before, of a list in the same order")])
    return place


def page(entries: Iterable[_T], limit: int, place: Callable[[_T], Sequence[str | int]]) -> tuple[list[_T], str | None]:
    """The first ``limit`` entries, and the cursor of the next page if there are more."""
    some: list[_T] = []
    for entry in entries:
        if len(some) == limit:
            return some, write_cursor(place(some[-1]))
        some.append(entry)
    return some, None
