"""Scope-down: which requests a rule counts.

A scope lists accepted values for some columns; a request matches if its value in each of these columns is accepted. A
request does not match if its source lacks one of the columns.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

from chalicelib.core.logs.requests import Requests, Text


class _Memo(dict[Any, bool]):
    """Results of a match, computed once per distinct cell of a batch."""

    def __init__(self, match: Callable[[Any], bool]) -> None:
        self._match = match

    def __missing__(self, cell: Any) -> bool:
        hit = self[cell] = self._match(cell)
        return hit


@dataclass(frozen=True, slots=True)
class Scope:
    """Accepted values per column. An empty tuple accepts everything; otherwise one of the values must match."""

    status: tuple[str, ...] = ()
    """Codes (``404``) and classes (``4xx``)."""
    method: tuple[str, ...] = ()
    waf_action: tuple[str, ...] = ()
    country: tuple[str, ...] = ()
    host: tuple[str, ...] = ()
    """Whole names; ``*.example.com`` stands for every name below example.com."""
    path: tuple[str, ...] = ()
    path_prefix: tuple[str, ...] = ()
    """Starts of paths. With ``path``, either may match."""
    waf_label: tuple[str, ...] = ()
    user_agent: tuple[str, ...] = ()
    """Parts of the User-Agent header, in any case."""

    def columns(self) -> list[str]:
        """Returns the columns that this scope examines."""
        return [column for column, _ in self._tests()]

    def rows(self, requests: Requests) -> Sequence[int] | None:
        """Returns the matching rows, ascending; None stands for all rows."""
        rows: Sequence[int] | None = None
        for name, match in self._tests():
            column = requests.columns(name)
            if column is None:
                return ()
            read, cells = column.text, column.cells
            memo = _Memo(lambda cell, match=match, read=read: match(read(cell)))  # type: ignore[misc]
            if rows is None:
                rows = list(compress(range(len(cells)), map(memo.__getitem__, cells)))
            else:
                rows = [row for row in rows if memo[cells[row]]]
            if not rows:
                return ()
        return rows

    def _tests(self) -> list[tuple[str, Callable[[Text], bool]]]:
        """Returns columns and their tests; those with few distinct cells come first, because they are fast."""
        tests: list[tuple[str, Callable[[Text], bool]]] = []
        if self.status:
            codes = frozenset(self.status)
            tests.append(("status", lambda text: text in codes or f"{text[:1]}xx" in codes))
        for name, accepted in (("method", self.method), ("waf_action", self.waf_action), ("country", self.country)):
            if accepted:
                tests.append((name, frozenset(accepted).__contains__))
        if self.host:
            names = frozenset(name for name in self.host if not name.startswith("*."))
            suffixes = tuple(name[1:] for name in self.host if name.startswith("*."))
            tests.append(("host", lambda text: text in names or _joined(text).endswith(suffixes)))
        if self.path or self.path_prefix:
            paths, prefixes = frozenset(self.path), self.path_prefix
            tests.append(("path", lambda text: text in paths or _joined(text).startswith(prefixes)))
        if self.waf_label:
            tests.append(("waf_label", lambda text: not frozenset(self.waf_label).isdisjoint(text)))
        if self.user_agent:
            parts = tuple(part.lower() for part in self.user_agent)
            tests.append(("user_agent", lambda text: any(part in _joined(text).lower() for part in parts)))
        return tests


def _joined(text: Text) -> str:
    return text if isinstance(text, str) else "\n".join(text)


EVERYTHING = Scope()
