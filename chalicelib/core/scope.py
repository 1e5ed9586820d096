"""Scope-down: which requests a rule counts.

A scope lists accepted values for some columns; a request matches if its value in each of these columns is accepted, and
if it matches none of the scopes that are excluded. A request does not match if its source lacks one of the columns,
those of the excluded scopes included, because nothing is known about it there.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import compress
from typing import cast

from chalicelib.core.logs.requests import Column, Requests, Text
from chalicelib.core.paths import is_page, is_static, normalised

ABSENT = "-"
"""Value that stands for a header or fingerprint that a request does not have."""


_Test = Callable[[Text], bool]


@dataclass(frozen=True, slots=True, repr=False)
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
    path_suffix: tuple[str, ...] = ()
    """Ends of paths, which must match in addition to ``path`` and ``path_prefix``."""
    static: bool | None = None
    """True for static files alone (``paths.is_static``), False for all other requests, None for both."""
    normalise: bool = False
    """True if paths are compared in their normal form (``paths.normalised``)."""
    ignore_case: bool = False
    """True if paths are compared in lower case."""
    content_type: tuple[str, ...] = ()
    """Media types of the response; ``image/*`` stands for every one of its type."""
    asn: tuple[str, ...] = ()
    ja3: tuple[str, ...] = ()
    ja4: tuple[str, ...] = ()
    referer: tuple[str, ...] = ()
    """Parts of the Referer header, in any case."""
    header_names: tuple[str, ...] = ()
    """Names of headers, in lower case; the request must have one of them."""
    excluded: tuple["Scope", ...] = ()
    """Scopes without ``excluded``: a request that matches one of them does not match this scope."""

    def __repr__(self) -> str:
        """Returns the text that topics are digests of. Keys that were added later are in it only if they are used.

        So a scope has the same topic in every version that knows its keys.
        """
        values = [(field.name, getattr(self, field.name), field.default) for field in fields(self)]
        shown = [f"{name}={value!r}" for name, value, default in values if name in _IN_EVERY_REPR or value != default]
        return f"Scope({', '.join(shown)})"

    def columns(self) -> list[str]:
        """Returns the columns that this scope examines, each once."""
        return list(dict.fromkeys(column for scope in (self, *self.excluded) for column, _ in scope._tests()))

    def rows(self, requests: Requests) -> Sequence[int] | None:
        """Returns the matching rows, ascending; None stands for all rows."""
        rows = _matching(None, ((requests.columns(name), test) for name, test in self._tests()))
        for excluded in self.excluded:
            columns = [(requests.columns(name), test) for name, test in excluded._tests()]
            if any(column is None for column, _ in columns):
                return ()
            unwanted = frozenset(_matching(rows, columns) or ())
            if unwanted:
                rows = [row for row in (range(len(requests)) if rows is None else rows) if row not in unwanted]
        return rows

    def _tests(self) -> list[tuple[str, _Test]]:
        """Returns columns and their tests; those with few distinct cells come first, because they are fast."""
        tests: list[tuple[str, _Test]] = []
        if self.status:
            codes = frozenset(self.status)
            tests.append(("status", lambda text: text in codes or f"{text[:1]}xx" in codes))
        for name, accepted in (("method", self.method), ("waf_action", self.waf_action), ("country", self.country)):
            if accepted:
                tests.append((name, frozenset(accepted).__contains__))
        if self.content_type:
            types = frozenset(self.content_type)
            tests.append(("content_type", lambda text: not types.isdisjoint(_media_type(_joined(text)))))
        if self.host:
            names = frozenset(name for name in self.host if not name.startswith("*."))
            suffixes = tuple(name[1:] for name in self.host if name.startswith("*."))
            tests.append(("host", lambda text: text in names or _joined(text).endswith(suffixes)))
        for name, accepted in (("asn", self.asn), ("ja3", self.ja3), ("ja4", self.ja4)):
            if accepted:
                tests.append((name, _any_of(accepted)))
        if self.path or self.path_prefix or self.path_suffix or self.static is not None:
            tests.append(("path", self._path_test()))
        if self.waf_label:
            tests.append(("waf_label", lambda text: not frozenset(self.waf_label).isdisjoint(text)))
        if self.header_names:
            headers = frozenset(self.header_names)
            tests.append(("header_names", lambda text: not headers.isdisjoint(text)))
        if self.referer:
            tests.append(("referer", _any_part_of(self.referer, or_absent=ABSENT in self.referer)))
        if self.user_agent:
            tests.append(("user_agent", _any_part_of(self.user_agent)))
        return tests

    def path_form(self, path: str) -> str:
        """Returns ``path`` in the form in which this scope compares paths."""
        if self.normalise:
            path = normalised(path)
        return path.lower() if self.ignore_case else path

    def _path_test(self) -> _Test:
        cased = str.lower if self.ignore_case else str
        paths, prefixes = frozenset(map(cased, self.path)), tuple(map(cased, self.path_prefix))
        suffixes = tuple(map(cased, self.path_suffix))
        conditions: list[Callable[[str], bool]] = []
        if paths or prefixes:
            conditions.append(lambda path: path in paths or path.startswith(prefixes))
        if suffixes:
            conditions.append(lambda path: path.endswith(suffixes))
        if self.static is not None:
            conditions.append(is_static if self.static else is_page)
        if len(conditions) == 1 and not (self.normalise or self.ignore_case):  # the usual rules: a test is one call
            return cast("_Test", conditions[0])
        return lambda text: all(c(path) for path in (self.path_form(_joined(text)),) for c in conditions)


_IN_EVERY_REPR = frozenset(
    ("status", "method", "waf_action", "country", "host", "path", "path_prefix", "waf_label", "user_agent")
)
"""The keys of version 0.2, whose ``repr`` held all of them. Later ones are never added here."""


def _matching(rows: Sequence[int] | None, tests: Iterable[tuple[Column | None, _Test]]) -> Sequence[int] | None:
    """Returns those of ``rows`` that pass all tests; None, as argument or result, stands for all rows. A column that is
    None matches no row."""
    for column, test in tests:
        if column is None:
            return ()
        read = column.text
        cells = column.cells if rows is None else [column.cells[row] for row in rows]
        accepted = {cell for cell in set(cells) if test(read(cell))}
        rows = list(compress(range(len(cells)) if rows is None else rows, map(accepted.__contains__, cells)))
        if not rows:
            return ()
    return rows


def _any_of(accepted: Sequence[str]) -> _Test:
    values = frozenset(accepted)
    return lambda text: (text or ABSENT) in values


def _any_part_of(accepted: Sequence[str], *, or_absent: bool = False) -> _Test:
    parts = tuple(part.lower() for part in accepted if not (or_absent and part == ABSENT))

    def test(text: Text) -> bool:
        lower = _joined(text).lower()
        return (or_absent and not lower) or any(part in lower for part in parts)

    return test


def _media_type(text: str) -> tuple[str, str]:
    """Returns a media type without its parameters, and the wildcard for all of its type.

    >>> _media_type("Text/HTML; charset=utf-8"), _media_type("")
    (('text/html', 'text/*'), ('-', '-'))
    """
    name = text.partition(";")[0].strip().lower()
    return (name, f"{name.partition('/')[0]}/*") if name else (ABSENT, ABSENT)


def _joined(text: Text) -> str:
    return text if isinstance(text, str) else "\n".join(text)


EVERYTHING = Scope()
