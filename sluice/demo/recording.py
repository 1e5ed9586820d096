"""Recorded traffic: the lines of a log, played through the local cloud by their own times, and the edge in front of
it."""

import re
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import msgspec

from chalicelib.core.addresses import Network, NetworkSet, PrefixMemo, network_of
from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.logs.framing import BLANK, framed
from chalicelib.core.logs.requests import Malformed, Requests, Source
from chalicelib.core.refusals import REFUSAL_ACTION, REFUSAL_STATUS, refusal_rows
from sluice.demo.edge import STATUSES, Edge, softer_sets
from sluice.demo.latency import Latency
from sluice.local.cloud import LocalCloud
from sluice.logs.files import ReadProgress, chunks
from sluice.replay.strips import LogStats

SETTLE_S = 60.0
"""Seconds between two latency measurements, which bound the records kept in memory."""

LOOK_AHEAD = 9
"""Lines whose median time decides whether the line before them is an outlier."""

OUTLIER_S = 300.0
"""A line this many seconds ahead of those after it does not move the clock."""

PATIENCE_S = 30.0
"""Seconds a finished file may take to be ingested and published."""

CLIENT_PREFIXES = 32, 64
"""Prefix lengths of the clients that are reported, as rules aggregate addresses unless they say otherwise."""


ACTIONS = ((b'"forward"', b'"waf"'), (b'"WAF_ALLOW"', b'"WAF_BLOCK"'))
"""Marks, in the logs of load balancers and API Gateway, of a request that AWS WAF lets through and of one it blocks."""


class Line(NamedTuple):
    """A line of a log."""

    record: bytes
    at: float | None = None
    """Time of its earliest request, in epoch seconds; None if there is none in it."""
    client: bytes = b""
    """Packed address of the client; empty if the line is not one request."""
    requests: int = 0
    """Number of requests in it."""
    malformed: tuple[Malformed, ...] = ()


def lines_of(file: Iterable[bytes], decoder: BatchDecoder) -> Iterator[Line]:
    """Yields the lines of a file, as the decoder in Lambda reads each of them."""
    for record in file:
        decoded = decoder.decode([record])
        if len(decoded) == 1:
            requests = decoded.requests[0]
            yield Line(record, requests.times[0] / 1000, requests.clients[0], 1, decoded.malformed)
        else:
            at = decoded.span_ms()[0] / 1000 if decoded else None
            yield Line(record, at, requests=len(decoded), malformed=decoded.malformed)


class RecordedLog:
    """The lines of a log file, plain or gzip, and what was found in those that have been read."""

    def __init__(self, file: Path | None, decoder: BatchDecoder) -> None:
        """``file``: None stands for standard input."""
        self._file = file
        self._decoder = decoder
        self.progress = ReadProgress()
        self.stats = LogStats()

    def __iter__(self) -> Iterator[Line]:
        for chunk in chunks([self._file], self.progress):
            malformed = list(chunk.malformed)
            for line in lines_of(_records(chunk.text), self._decoder):
                self.stats.requests += line.requests
                malformed += line.malformed
                yield line
            self.stats.add_malformed(malformed, chunk)


def _records(text: bytes) -> list[bytes]:
    """Returns the lines in a text or, if it begins with a JSON object, the objects, which may span lines."""
    if not text.lstrip(BLANK).startswith(b"{"):
        return text.splitlines(keepends=True)
    pieces = framed(text)
    return [*pieces.objects, *pieces.fragments, *pieces.damaged, *pieces.lines]


class RecordedEdge:
    """The edge in front of recorded traffic: it refuses what is published, and logs the requests it refuses as such."""

    def __init__(
        self,
        cloud: LocalCloud,
        decoder: BatchDecoder,
        delay_s: float,
        *,
        solvers: Collection[Network] = (),
        allowed: Collection[Network] = (),
    ) -> None:
        """``delay_s``: see ``Edge``. ``solvers``: networks of clients that solve challenges and puzzles.

        ``allowed``: networks whose requests a rule before Sluice's allows.
        """
        solving, passing = NetworkSet(solvers), NetworkSet(allowed)
        self._edge = Edge(cloud.waf.updates, delay_s, softer_sets(cloud), solving.contains, passing.contains)
        self._decoder = decoder
        self._block_status = cloud.config.block_status
        self._memo = PrefixMemo(*CLIENT_PREFIXES)
        self._requests: Counter[bytes] = Counter()
        self._refused: Counter[bytes] = Counter()
        self._asked: Counter[bytes] = Counter()
        """Those of the refused requests that were answered by a challenge or a puzzle."""

    def logged(self, line: Line, now: float) -> bytes:
        """Returns the line that is logged for a request made at ``now`` (epoch seconds, which never decreases)."""
        if not line.client:
            return line.record
        client = self._memo[line.client]
        self._requests[client] += 1
        answer = self._edge.answer(line.client, now)
        if answer is None:
            return line.record
        self._refused[client] += 1
        if answer not in STATUSES:
            return refused(line.record, self._decoder, self._block_status)
        self._asked[client] += 1
        return refused(line.record, self._decoder, STATUSES[answer], answer.upper())

    def clients(self) -> dict[str, dict[str, int]]:
        """Returns the requests of each client, how many were refused, and how many of these by asking for a token."""
        return {
            str(network_of(client, *CLIENT_PREFIXES)): {
                "requests": requests,
                "refused": self._refused[client],
                "asked": self._asked[client],
            }
            for client, requests in self._requests.items()
        }


def refused(record: bytes, decoder: BatchDecoder, sent: int = REFUSAL_STATUS, action: str = REFUSAL_ACTION) -> bytes:
    """Returns the line of the same request as it is logged when Sluice's rule group refuses it.

    ``sent``: the status that AWS WAF answers with. ``action``: what it did.

    A line that gives neither status nor action stays as it is.

    >>> refused(b"1760000000.123\\t192.0.2.1\\t200\\n", BatchDecoder(("timestamp", "c-ip", "sc-status")))
    b'1760000000.123\\t192.0.2.1\\t429\\n'
    >>> refused(b'{"timestamp":1,"action":"ALLOW","httpRequest":{"clientIp":"192.0.2.1"}}', BatchDecoder())
    b'{"timestamp":1,"action":"BLOCK","httpRequest":{"clientIp":"192.0.2.1"},"responseCodeSent":429}\\n'
    """
    answered = _request(record, decoder)
    if answered is None:
        return record
    if answered.source is Source.WAF:
        entry: dict[str, Any] = msgspec.json.decode(record.decode("utf-8", "replace"), type=dict[str, msgspec.Raw])
        return msgspec.json.encode({**entry, "action": action, "responseCodeSent": sent}) + b"\n"
    statuses = answered.columns("status")
    status = "" if statuses is None else str(*statuses.texts())
    # In whatever format, one of the numbers that read like the status is the status.
    for match in re.finditer(rb"(?<!\d)%s(?!\d)" % re.escape(status.encode()), record) if status else ():
        changed = b"%s%d%s" % (record[: match.start()], sent, record[match.end() :])
        for logged in (changed, *(changed.replace(let_through, blocked, 1) for let_through, blocked in ACTIONS)):
            requests = _request(logged, decoder)
            if requests is not None and (sent in STATUSES.values() or refusal_rows(requests, sent)):
                return logged
    return record


def _request(record: bytes, decoder: BatchDecoder) -> Requests | None:
    """Returns the request in a line; None if there is not exactly one."""
    decoded = decoder.decode([record])
    return decoded.requests[0] if len(decoded) == 1 else None


def play(cloud: LocalCloud, lines: Iterable[Line], latency: Latency, edge: RecordedEdge | None = None) -> None:
    """Feeds ``lines`` in order, and moves the cloud's clock to their times. ``edge`` refuses some of their requests.

    A line far ahead of those after it does not move the clock: its time is wrong, and would make the others late.
    Returns when everything is ingested and published, or else about ``PATIENCE_S`` seconds after the last line.
    """
    cloud.start()
    settled = cloud.now()
    for moment, line in _deliveries(lines):
        if moment > cloud.now():
            cloud.loop.run(moment)
        record = line.record if edge is None else edge.logged(line, cloud.now())
        latency.arrived(cloud.now(), record)
        cloud.put(record)
        if cloud.now() - settled > SETTLE_S:
            latency.settle(cloud.telemetry.blocks, cloud.waf.updates)
            settled = cloud.now()
    deadline = cloud.now() + PATIENCE_S
    cloud.loop.run(cloud.now() + 2)
    while cloud.backlog and cloud.now() < deadline:
        cloud.loop.run(cloud.now() + 1)
    cloud.loop.run(cloud.now() + 5)
    latency.settle(cloud.telemetry.blocks, cloud.waf.updates)


def _deliveries(lines: Iterable[Line]) -> Iterator[tuple[float, Line]]:
    """Yields each line with its delivery time. Times never decrease; outliers are ignored."""
    latest = 0.0
    window: deque[Line] = deque()
    rest = iter(lines)
    while True:
        while len(window) <= LOOK_AHEAD and (following := next(rest, None)) is not None:
            window.append(following)
        if not window:
            return
        line = window.popleft()
        if line.at is not None and line.at > latest:
            later = [each.at for each in window if each.at is not None]
            if not later or line.at <= median(later) + OUTLIER_S:
                latest = line.at
        yield latest, line
