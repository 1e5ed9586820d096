"""Requests, detections and blocks over time, for charts."""

from collections.abc import Iterable
from typing import Annotated

import msgspec

from chalicelib.admin.answers import TimedAnswer, at_most
from chalicelib.admin.live_counts import ItemSeen, LiveCounts
from chalicelib.core.detections import detection_ids_since
from chalicelib.core.state import Block, Detection
from chalicelib.pipeline.stored import State

MOST_DETECTIONS = 500
"""Records read for one log, the newest; each names up to a thousand clients."""


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """Requests, detections and blocks within one step."""

    at: int
    """Start of the step. Epoch seconds."""
    requests: int
    detections: int
    """Clients detected over a limit."""
    blocks: int
    """Blocks made in the step that are still in force."""


class Series(TimedAnswer, frozen=True, kw_only=True):
    step_s: int
    points: Annotated[list[Point], at_most(900)]
    """Oldest first; the last step is not over yet."""


def read_series(state: State, live: LiveCounts, *, span_s: int, step_s: int, now_ms: int) -> Series:
    """Returns the series; ``live`` must be fresh. Steps begin at multiples of ``step_s``; the last holds ``now_ms``."""
    now = now_ms // 1000
    last = now // step_s
    first = last - -(-span_s // step_s) + 1
    seen = list(live.seen())
    requests = spread(seen, step_s * 1000)
    detections: dict[int, int] = {}
    for detection in _detections(state, seen, first * step_s * 1000):
        step = detection.detected_ms // 1000 // step_s
        detections[step] = detections.get(step, 0) + len(detection.offenders)
    blocks: dict[int, int] = {}
    for block in state.all(Block):
        step = block.record.blocked_at // step_s
        blocks[step] = blocks.get(step, 0) + 1
    points = [
        Point(
            at=step * step_s,
            requests=round(requests.get(step, 0)),
            detections=detections.get(step, 0),
            blocks=blocks.get(step, 0),
        )
        for step in range(first, last + 1)
    ]
    return Series(now=now, step_s=step_s, points=points)


def spread(items: Iterable[ItemSeen], step_ms: int) -> dict[int, float]:
    """Returns requests by step; those of an item are spread evenly from its first to its last.

    >>> spread([ItemSeen("log", 0, written_ms=0, first_ms=1500, last_ms=2499, requests=10)], 1000)
    {1: 5.0, 2: 5.0}
    """
    requests: dict[int, float] = {}
    for item in items:
        end = item.last_ms + 1
        length = end - item.first_ms
        for step in range(item.first_ms // step_ms, (end - 1) // step_ms + 1):
            inside = min(end, (step + 1) * step_ms) - max(item.first_ms, step * step_ms)
            requests[step] = requests.get(step, 0) + item.requests * inside / length
    return requests


def _detections(state: State, seen: Iterable[ItemSeen], since_ms: int) -> Iterable[Detection]:
    """Detections of the items that were written since ``since_ms``: their ids begin with log and offset."""
    firsts: dict[str, int] = {}
    for item in seen:
        if item.written_ms >= since_ms:
            firsts[item.log] = min(item.offset, firsts.get(item.log, item.offset))
    for log, offset in firsts.items():
        above, below = detection_ids_since(log, offset)
        newest = state.all(Detection, above=above, below=below, limit=MOST_DETECTIONS, descending=True)
        yield from (detection.record for detection in newest)
