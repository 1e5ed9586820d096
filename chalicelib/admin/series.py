"""Requests, detections and blocks over time, for charts."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated

import msgspec

from chalicelib.admin.answers import TimedAnswer, at_most
from chalicelib.admin.listed_blocks import ListedBlocks
from chalicelib.admin.live_counts import LiveCounts
from chalicelib.admin.schemas import SeriesQuery
from chalicelib.core.detections import detection_ids_since
from chalicelib.core.state.detections import Detection
from chalicelib.pipeline.stored import State
from chalicelib.ports import LogItem, LogKey

MOST_DETECTIONS = 500
"""Newest detections read per log; each names up to a thousand clients."""


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """Requests, detections and blocks within one step."""

    at: int
    """Start of the step. Epoch seconds."""
    requests: int
    """Requests logged, not scaled up by the sample rate; those of a batch are spread evenly over its time."""
    refused: int
    """Those of them that were answered as Sluice answers those it refuses, as far as a rule counts them."""
    detections: int
    """Offenders of all detections: a client counts once for each detection that names it."""
    blocks: int
    """Blocks made in the step that are still in force."""


class Series(TimedAnswer, frozen=True, kw_only=True):
    step_s: int
    points: Annotated[list[Point], at_most(900)]
    """Oldest first; the last step is not over yet."""


def read_series(state: State, listed: ListedBlocks, live: LiveCounts, query: SeriesQuery, now_ms: int) -> Series:
    """Returns the series; ``live`` must be fresh. Steps begin at multiples of their length; the last contains now."""
    now, step_s = now_ms // 1000, query.step
    last = now // step_s
    first = last - -(-query.span // step_s) + 1
    requests = spread(((item, item.requests) for item in live.items.values()), step_s * 1000)
    refused = spread(((item, item.refused) for item in live.items.values() if item.refused), step_s * 1000)
    detections: Counter[int] = Counter()
    for detection in _detections(state, live.items, first * step_s * 1000):
        detections[detection.detected_ms // 1000 // step_s] += len(detection.offenders)
    blocks = Counter(block.blocked_at // step_s for block in listed.in_force(now) if block.blocked_at >= first * step_s)
    points = [
        Point(
            at=step * step_s,
            requests=round(requests.get(step, 0)),
            refused=round(refused.get(step, 0)),
            detections=detections[step],
            blocks=blocks[step],
        )
        for step in range(first, last + 1)
    ]
    return Series(now=now, step_s=step_s, points=points)


def spread(numbers: Iterable[tuple[LogItem, int]], step_ms: int) -> dict[int, float]:
    """Returns numbers of requests per step, those of an item spread evenly from its first request to its last.

    >>> item = LogItem(body=b"", last_sequence=0, written_ms=0, first_slot_ms=1500, last_slot_ms=2499)
    >>> spread([(item, 10)], 1000)
    {1: 5.0, 2: 5.0}
    """
    requests: dict[int, float] = {}
    for item, number in numbers:
        start, end = item.first_slot_ms, item.last_slot_ms + 1
        for step in range(start // step_ms, (end - 1) // step_ms + 1):
            inside = min(end, (step + 1) * step_ms) - max(start, step * step_ms)
            requests[step] = requests.get(step, 0) + number * inside / (end - start)
    return requests


def _detections(state: State, items: Mapping[LogKey, LogItem], since_ms: int) -> Iterator[Detection]:
    """Yields the detections of items written since ``since_ms``: their ids begin with log and offset."""
    firsts: dict[str, int] = {}
    for (log, offset), item in items.items():
        if item.written_ms >= since_ms:
            firsts[log] = min(offset, firsts.get(log, offset))
    for log, offset in firsts.items():
        above, below = detection_ids_since(log, offset)
        newest = state.all(Detection, above=above, below=below, limit=MOST_DETECTIONS, descending=True)
        yield from (detection.record for detection in newest)
