"""Pages of long lists. A cursor names the entry that a page follows, so concurrent changes do not shift pages."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, TypeVar

from chalicelib.admin.errors import Invalid, fault

_T = TypeVar("_T")


def write_cursor(after: Sequence[str | int]) -> str:
    """Returns the cursor of the page that follows an entry.

    >>> read_cursor(write_cursor([7, "192.0.2.0/24"]), [int, str])
    [7, '192.0.2.0/24']
    """
    return urlsafe_b64encode(json.dumps(after).encode()).rstrip(b"=").decode()


def read_cursor(cursor: str, types: Sequence[type]) -> list[Any]:
    """Returns the values in a cursor. Raises Invalid unless they are of ``types``."""
    try:
        after = json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, RecursionError):
        after = None
    if not isinstance(after, list) or list(map(type, after)) != list(types):
        raise Invalid(fault("query", "cursor", cursor, "'next' of the previous page of a list in the same order"))
    return after


def page(
    entries: Iterable[_T], limit: int, position: Callable[[_T], Sequence[str | int]]
) -> tuple[list[_T], str | None]:
    """Returns the first ``limit`` entries, and the cursor of the next page if there are more."""
    remaining = iter(entries)
    shown = list(islice(remaining, limit))
    more = next(remaining, None) is not None
    return shown, write_cursor(position(shown[-1])) if more else None
