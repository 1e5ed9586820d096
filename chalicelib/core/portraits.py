"""Portraits: what the requests of a client looked like, in a few hundred bytes.

Tallies say how many requests a client made, and nothing about them. So ingest also draws the few clients of a batch
that come closest to a limit, and stores the portraits beside the tally. Evaluate remembers them for a few minutes, and
adds them to its detections. They explain, and decide nothing: a portrait that is missing changes no block.

Everything in a portrait was written by the client. Values are cut to a fixed length and escaped, what follows a
question mark or a semicolon in a path is left out, and cookies and other headers are never read.
"""

import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from heapq import nlargest
from itertools import compress, count, islice
from typing import NamedTuple

import msgspec

from chalicelib.core.addresses import PrefixMemo, network_of
from chalicelib.core.allowance import Allowance
from chalicelib.core.client_groups import CLIENT_BYTES, client_of
from chalicelib.core.logs.requests import Requests, Source
from chalicelib.core.meter_tally import MeterTally
from chalicelib.core.printable import printable
from chalicelib.core.rules import Rule
from chalicelib.core.sampling import WHOLE_LOG, Sampling
from chalicelib.core.tally import Tally

MOST_CLIENTS = 4
"""Most clients of a batch that are drawn, those closest to a limit: a millisecond of work."""

MOST_COMPARED = 16
"""Most clients of a batch and rule that are compared: those closest to the limit."""

MOST_SEARCHED = 5000
"""Most requests of a batch that are searched for those of the clients to draw: the first."""

DRAWN_AGAIN_MS = 60_000
"""Milliseconds for which a container does not draw a client again, but others that are less close to a limit."""

MOST_DRAWN = 10_000
"""Most clients of whom a container remembers when it drew them."""

LIMIT_SHARE = 10
"""A client is drawn if the batch brings it one in this many of the way to a limit: not in ordinary batches."""

MOST_ROWS = 12
"""Most requests of a client that are looked at in one batch, evenly spread over it."""

MOST_VALUES = 3
"""Most values that a portrait holds of each kind, the commonest."""

LARGEST_PACKED = 2000
"""Most bytes of the portraits of one batch: at most two more write units, whatever clients send."""

_LARGEST_UNPACKED = 100_000

SHOWN = {
    "path": ("paths", 100),
    "host": ("hosts", 80),
    "method": ("methods", 16),
    "status": ("statuses", 8),
    "user_agent": ("user_agents", 160),
    "country": ("countries", 8),
    "asn": ("asns", 12),
}
"""Field of a portrait for each column, and the most bytes of one value."""

KINDS = {
    "lines": "request",
    "paths": "path",
    "hosts": "host",
    "methods": "method",
    "statuses": "status",
    "user_agents": "user agent",
    "countries": "country",
    "asns": "AS number",
}
"""Fields of a portrait in the order of interest, with their names in words."""

_LINE = ("method", "host", "path", "status")
_LONGEST_LINE = 160
_ABSENT = frozenset(("", "-"))


class Portrait(msgspec.Struct, frozen=True, kw_only=True):
    """The commonest values in some requests of a client, each with its number of requests."""

    requests: int
    """Number of requests that were looked at: a sample of those that came shortly before the detection."""
    lines: dict[str, int] = {}
    """Method, host, path and status in one line. Like all values, escaped and cut; without the query string."""
    paths: dict[str, int] = {}
    hosts: dict[str, int] = {}
    methods: dict[str, int] = {}
    statuses: dict[str, int] = {}
    user_agents: dict[str, int] = {}
    countries: dict[str, int] = {}
    asns: dict[str, int] = {}
    """Numbers of autonomous systems. This and the country are empty if the log does not have them."""


class Drawn(msgspec.Struct, frozen=True, array_like=True):
    """A client's portrait in one batch."""

    source: str
    network: str
    """The client, as a rule aggregates addresses."""
    portrait: Portrait


class _Close(NamedTuple):
    """A rule's clients that are worth a portrait."""

    least: int
    """Amount in one batch from which they are."""
    limit: int
    rule: Rule


class _Subject(NamedTuple):
    """A client to draw."""

    source: Source
    prefixes: tuple[int, int]
    key: bytes


class Portraitist:
    """Draws the clients of batches that come closest to the limits of a set of rules."""

    def __init__(self, rules: Iterable[Rule], sampling: Sampling = WHOLE_LOG) -> None:
        """``sampling``: that of CloudFront's real-time log."""
        self._drawn_ms: dict[_Subject, int] = {}
        self._close: dict[tuple[str, bytes], _Close] = {}
        for rule in rules:
            for source in Source:
                limit = Allowance.of(rule, source, sampling).limit
                close = _Close(max(1, limit // LIMIT_SHARE), max(1, limit), rule)
                other = self._close.setdefault((source, rule.meter.topic), close)
                if limit < other.limit:
                    self._close[source, rule.meter.topic] = close

    def draw(
        self, batches: Iterable[Requests], tally: Tally, memos: Mapping[tuple[int, int], PrefixMemo], now_ms: int
    ) -> list[Drawn]:
        """Returns the portraits of ``tally``'s clients closest to a limit, the closest first.

        ``batches``: the requests that were tallied. ``memos``: one for each pair of prefixes of the rules.
        """
        subjects = self._subjects(tally, now_ms)
        if not subjects:
            return []
        keys_of: dict[tuple[Source, tuple[int, int]], set[bytes]] = {}
        for subject in subjects:
            keys_of.setdefault((subject.source, subject.prefixes), set()).add(subject.key)
        portraits: dict[_Subject, list[Portrait]] = {subject: [] for subject in subjects}
        for requests in batches:
            for (source, prefixes), keys in keys_of.items():
                if source is not requests.source:
                    continue
                for key, rows in _rows_of(keys, map(memos[prefixes].__getitem__, requests.clients)).items():
                    portraits[_Subject(source, prefixes, key)].append(_portrait(requests, rows))
        return [
            Drawn(subject.source, str(network_of(subject.key, *subject.prefixes)), together(drawn))
            for subject, drawn in portraits.items()
            if drawn
        ]

    def _subjects(self, tally: Tally, now_ms: int) -> list[_Subject]:
        """Returns the clients to draw, the closest to a limit first, and remembers them."""
        shares: dict[_Subject, float] = {}
        for part in tally:
            close = self._close.get((part.source, part.topic))
            if close is None:
                continue
            for key, amount in _closest(part, close):
                subject = _Subject(part.source, close.rule.prefixes, key)
                shares[subject] = max(shares.get(subject, 0.0), amount / close.limit)
        due = [each for each in shares if now_ms - self._drawn_ms.get(each, 0) >= DRAWN_AGAIN_MS]
        subjects = nlargest(MOST_CLIENTS, due, key=shares.__getitem__)
        for subject in subjects:
            self._drawn_ms.pop(subject, None)
            self._drawn_ms[subject] = now_ms
        for subject in list(islice(self._drawn_ms, max(0, len(self._drawn_ms) - MOST_DRAWN))):
            del self._drawn_ms[subject]
        return subjects


def _closest(part: MeterTally, close: _Close) -> list[tuple[bytes, int]]:
    """Returns the clients of ``part`` that are worth a portrait, and what their rule counts of them in this batch.

    A client may be returned once per group, if the rule groups requests.
    """
    if close.rule.measure.is_distinct:
        keys = part.keys()
        values = Counter([key[:CLIENT_BYTES] for key in keys]).most_common(MOST_COMPARED)
        return [(client_of(head), number) for head, number in values if number >= close.least]
    totals = part.totals()
    if max(totals, default=0) < close.least:
        return []
    rows = list(compress(count(), map(close.least.__le__, totals)))
    rows = sorted(rows, key=totals.__getitem__, reverse=True)[:MOST_COMPARED]
    clients = map(client_of, part.keys_at(rows)) if close.rule.by else part.keys_at(rows)
    return [(client, totals[row]) for row, client in zip(rows, clients, strict=True)]


def _rows_of(keys: Collection[bytes], clients: Iterable[bytes]) -> dict[bytes, list[int]]:
    """Returns the rows of each of ``keys`` among the first ``MOST_SEARCHED`` of ``clients``."""
    searched = list(islice(clients, MOST_SEARCHED))
    rows: dict[bytes, list[int]] = {}
    for row in compress(count(), map(keys.__contains__, searched)):
        rows.setdefault(searched[row], []).append(row)
    return rows


def _portrait(requests: Requests, rows: Sequence[int]) -> Portrait:
    rows = rows[:: -(-len(rows) // MOST_ROWS)]
    texts: dict[str, list[str]] = {}
    for name in SHOWN:
        column = requests.columns(name)
        if column is not None:
            texts[name] = [str(column.text(cell)) for cell in map(column.cells.__getitem__, rows)]
    if "path" in texts:
        texts["path"] = [path.partition("?")[0].partition(";")[0] for path in texts["path"]]
    counts = {SHOWN[name][0]: _commonest(values, SHOWN[name][1]) for name, values in texts.items()}
    parts = [texts.get(name, [""] * len(rows)) for name in _LINE]
    lines = [
        " ".join(part for part in (method, host + path, status) if part not in _ABSENT)
        for method, host, path, status in zip(*parts, strict=True)
    ]
    return Portrait(requests=len(rows), lines=_commonest(lines, _LONGEST_LINE), **counts)


def _commonest(texts: Iterable[str], most_bytes: int) -> dict[str, int]:
    counts: dict[str, int] = {}
    for text in texts:
        counts[text] = counts.get(text, 0) + 1
    for absent in _ABSENT:
        counts.pop(absent, None)
    commonest: dict[str, int] = {}
    for text in sorted(counts, key=counts.__getitem__, reverse=True)[:MOST_VALUES]:
        shown = _shown(text, most_bytes)
        commonest[shown] = commonest.get(shown, 0) + counts[text]
    return commonest


def _shown(text: str, most_bytes: int) -> str:
    """Returns the start of ``text``, harmless in a terminal or a table, in at most ``most_bytes`` bytes of UTF-8.

    >>> _shown("/caf\\u00e9\\x1b[2J", 40), _shown("/caf\\u00e9", 6), _shown("/caf\\u00e9", 5)
    ('/café\\\\x1b[2J', '/café', '/c…')
    """
    escaped = printable(text[:most_bytes]).encode()
    if len(escaped) <= most_bytes and len(text) <= most_bytes:
        return escaped.decode()
    return escaped[: most_bytes - 3].decode(errors="ignore") + "\N{HORIZONTAL ELLIPSIS}"


def together(portraits: Sequence[Portrait]) -> Portrait:
    """Returns one portrait of the requests of all; a value that is rare in each may be missing from it."""
    if len(portraits) == 1:
        return portraits[0]
    sums: dict[str, Counter[str]] = {}
    for portrait in portraits:
        for name in KINDS:
            sums.setdefault(name, Counter()).update(getattr(portrait, name))
    commonest = {name: dict(counts.most_common(MOST_VALUES)) for name, counts in sums.items()}
    return Portrait(requests=sum(portrait.requests for portrait in portraits), **commonest)


_drawn = msgspec.msgpack.Decoder(list[Drawn])


def pack_portraits(drawn: Sequence[Drawn]) -> bytes:
    """Returns as many of the first portraits as fit into ``LARGEST_PACKED`` bytes, packed; no bytes if none does."""
    for number in range(len(drawn), 0, -1):
        packed = zlib.compress(msgspec.msgpack.encode(drawn[:number]), 1)
        if len(packed) <= LARGEST_PACKED:
            return packed
    return b""


def unpack_portraits(packed: bytes) -> Sequence[Drawn]:
    """Returns the portraits that ``pack_portraits`` packed; none for other bytes: only explanations are lost."""
    try:
        return _drawn.decode(zlib.decompressobj().decompress(packed, _LARGEST_UNPACKED)) if packed else ()
    except (zlib.error, msgspec.MsgspecError, UnicodeError):
        return ()


REMEMBERED_MS = 300_000
"""Milliseconds after which a client's next portrait replaces those before instead of adding to them."""

MOST_REMEMBERED = 4000
"""Most clients whose portraits one container remembers: some 2 kB each."""


class RecentPortraits:
    """The portraits that one container has seen in the last minutes, by source and network."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], tuple[int, Portrait]] = {}

    def add(self, drawn: Iterable[Drawn], at_ms: int) -> None:
        """Adds portraits of requests that were made up to ``at_ms``."""
        for each in drawn:
            portrait, client = each.portrait, (each.source, each.network)
            last_ms, earlier = self._kept.pop(client, (0, None))
            if earlier is not None and at_ms - last_ms <= REMEMBERED_MS:
                portrait = together([earlier, portrait])
            self._kept[client] = max(at_ms, last_ms), portrait
        for key in list(islice(self._kept, max(0, len(self._kept) - MOST_REMEMBERED))):
            del self._kept[key]

    def portrait(self, source: str, network: str, at_ms: int) -> Portrait | None:
        """Returns the portrait of a client as it was within ``REMEMBERED_MS`` of ``at_ms``; None if there is none."""
        last_ms, portrait = self._kept.get((source, network), (0, None))
        return portrait if abs(at_ms - last_ms) <= REMEMBERED_MS else None
