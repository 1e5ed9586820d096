"""A log of clients at the edge of a limit, and an exact count of any log."""

import gzip
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path
from random import Random

START_S = 1_793_527_200
"""A full hour."""
SPREAD_S = 600
"""Seconds from the start within which clients begin, each at a random moment."""
CLIENTS, VISITORS = 25, 1000
"""Clients of each kind; visitors are one more kind."""
FIRST = IPv4Address("198.18.0.0")
"""The first client, of the range for benchmarks (RFC 2544)."""
LINE = re.compile(r"(\S+) .*?\[([^\]]+)\]")


@dataclass(frozen=True, slots=True)
class Limit:
    """More than ``requests`` within ``window_s`` seconds are too many."""

    requests: int
    window_s: int


LIMIT = Limit(100, 60)
"""AWS WAF's shortest window, so that every rival can have it."""


def _at_once(start: float, number: int, seconds: float = 2) -> list[float]:
    return [start + seconds * done / number for done in range(number)]


def _around_a_minute(start: float, before: int, after: int, seconds: float) -> list[float]:
    minute = start // 60 * 60 + 60
    return _at_once(minute - seconds, before, seconds) + _at_once(minute, after, seconds)


def _again(start: float, number: int, times: int, every_s: float) -> list[float]:
    return [moment for turn in range(times) for moment in _at_once(start + turn * every_s, number)]


def _visit(start: float, random: Random) -> list[float]:
    return sorted(start + random.uniform(0, 300) for _ in range(random.randint(1, 20)))


def _requests(make: Callable[[float], list[float]]) -> Callable[[float, Random], list[float]]:
    return lambda start, _: make(start)


FLOOD = "flood"
OVER: Mapping[str, Callable[[float, Random], list[float]]] = {
    "one too many, in 2 s": _requests(lambda start: _at_once(start, 101)),
    "one too many, in 59 s": _requests(lambda start: _at_once(start, 101, 59)),
    "one too many, around a full minute": _requests(lambda start: _around_a_minute(start, 51, 50, 2)),
    "half too many, around a full minute": _requests(lambda start: _around_a_minute(start, 75, 75, 29)),
    "one too many in each minute": _requests(lambda start: _at_once(start, 505, 300)),
    "a fifth too many in each minute": _requests(lambda start: _at_once(start, 600, 300)),
    FLOOD: _requests(lambda start: _at_once(start, 300, 60)),
}
"""Times of the requests of a client that starts at a moment, by kind; the client exceeds ``LIMIT``."""
WITHIN: Mapping[str, Callable[[float, Random], list[float]]] = {
    "the limit at once, every 75 s": _requests(lambda start: _again(start, 100, 4, 75)),
    "the limit in each minute": _requests(lambda start: _at_once(start, 500, 300)),
    "one less, around a full minute": _requests(lambda start: _around_a_minute(start, 50, 49, 2)),
    "visitor": _visit,
}
"""The same for clients that never exceed it."""

Times = Mapping[str, Sequence[int]]
"""Sorted times of the requests of each client, in whole epoch seconds, as a log in combined format has them."""


def clients(random: Random) -> dict[str, tuple[str, list[int]]]:
    """Returns kind and times of each client."""
    made: dict[str, tuple[str, list[int]]] = {}
    for kind, requests in {**OVER, **WITHIN}.items():
        for _ in range(VISITORS if kind == "visitor" else CLIENTS):
            moments = requests(START_S + random.uniform(0, SPREAD_S), random)
            made[str(FIRST + len(made))] = kind, [int(moment) for moment in moments]
    return made


def lines(times: Times) -> Iterator[str]:
    """Yields a log in combined format, in order of time."""
    ordered = sorted((at, client) for client, moments in times.items() for at in moments)
    for number, (at, client) in enumerate(ordered):
        moment = datetime.fromtimestamp(at, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")
        request = f'"GET /p/{number % 900} HTTP/1.1" 200 5120 "-" "Mozilla/5.0 (X11; Linux x86_64)"'
        yield f"{client} - - [{moment}] {request}\n"


def read(log: Iterable[str]) -> dict[str, list[int]]:
    """Returns the times of each client of a log in combined or common format. Skips other lines."""
    times: defaultdict[str, list[int]] = defaultdict(list)
    for line in log:
        if match := LINE.match(line):
            times[match[1]].append(int(datetime.strptime(match[2], "%d/%b/%Y:%H:%M:%S %z").timestamp()))
    return {client: sorted(moments) for client, moments in times.items()}


def first_over(times: Sequence[int], limit: Limit) -> int | None:
    """Returns the time at which a client first exceeds ``limit``, or None.

    >>> first_over([0, 30, 59, 60], Limit(2, 60))
    59
    >>> first_over([0, 30, 60], Limit(2, 60)) is None
    True
    """
    for earlier, later in zip(times, times[limit.requests :], strict=False):
        if later - earlier < limit.window_s:
            return later
    return None


def unpacked(log: Path, folder: Path) -> Path:
    """Returns ``log``, or its unpacked copy in ``folder`` if it is gzip."""
    if log.suffix != ".gz":
        return log
    copy = folder / log.stem
    copy.write_bytes(gzip.decompress(log.read_bytes()))
    return copy
