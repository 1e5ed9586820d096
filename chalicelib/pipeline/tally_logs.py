"""The tally logs, and why every record is counted once and every excess is seen (docs/state-protocol.md).

A tally log is an append-only list of items at offsets 0, 1, 2, ... A batch appends one or more, or none if no rule
counts any of its requests. Each shard of the Kinesis stream has one log that is appended to, and possibly older ones.
The registry names the logs of every shard. Ingest appends to the logs of the shards that Lambda gives it
(``log_writer``); evaluate and the admin API read the logs of all shards (``log_reader``), because the requests of one
client are spread over all of them.

Appending: each record is counted once. An item is written at the next offset on condition that the offset is free, and
carries the highest Kinesis sequence number counted so far. The condition is the fence: two containers that both take
offset 7 for the end of a log cannot both write there.

    A reads the log up to 6            B reads the log up to 6      (Lambda timed A out and gave B the same batch)
    A appends at 7                     B appends at 7: Conflict
                                       B reads item 7, finds the batch's sequence numbers covered, appends nothing

Reading: every excess is seen. An evaluator merges items, and then evaluates their clients against all that it has
merged. So of the items that together bring a client over a limit, it evaluates the one that it merges last against all
the others. And it merges all: each item that is appended rings for an evaluator, which reads all logs to their ends.

    A appends to log 1                 B appends to log 2
    rung by A: E reads both logs       rung by B: F reads both logs
    if A came last, E reads B's item as well; if B came last, F reads A's

The position. An evaluator has evaluated all items before its position, which has one offset per log. It stores the
position from time to time, after the detections. Its successor merges what lies before, and then merges and evaluates
the rest. If all items of an excess lie before the position, the evaluator that stored it has merged them all, and found
the excess; if not, the successor merges the last of them, and finds it. So an old position only costs work. But it must
be the position of one evaluator: the furthest offsets of two evaluators cover items that neither merged together.

Closing. A log is left when its last item is so old that none of its requests can still count, FENCE_S before the store
may remove it, and with it the record of which offsets were taken. The item says when that is, because the retention may
have been different when it was written. It is closed by an item without a body at the next offset, subject to the same
condition. A container that was frozen in between finds that offset taken, learns from the item that the log is closed,
and reads the registry. The new log starts at offset 0 under a new name.

Recreated streams. Sequence numbers start over when a stream is deleted and recreated, so new records look as if they
had been counted. A counted record arrives before its tally is written; records that arrive clearly later under a low
number prove a new stream, and get a new log.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from chalicelib.core.tally import FENCE_S, RETENTION_S, kept_s
from chalicelib.ports import LogItem, Unavailable

SKEW_MS = 300_000
"""Longest time by which clocks may disagree, and by which a request's time may lie in the future."""

RESERVE_S = 20
"""Seconds of an invocation that are left for its last piece of work: to read and evaluate a slice, or to count a part
of an object."""

TimeLeft = Callable[[], float]
"""Returns the seconds until the invocation is ended."""


def unlimited() -> float:
    """Returns infinity, the time left where none is measured."""
    return inf


class OutOfTime(Unavailable):
    """The invocation has no time for the rest. What it did is kept, and the next one continues."""


@dataclass(slots=True)
class Tail:
    """The end of a log, as far as one container knows it."""

    shard: str
    log: str
    offset: int = 0
    """Next offset to read or write."""
    last_sequence: int = -1
    """Highest Kinesis sequence number covered so far; -1 if there is no item."""
    written_ms: int = 0
    """Time when the item before ``offset`` was written, or the log was opened if there is no item."""
    kept_s: int = kept_s(RETENTION_S)
    """Age at which the store may remove that item; no item is kept for less."""
    total: int = 0
    """Requests of the log so far, and those of them that were refused, as that item says."""
    refused_total: int = 0
    closed: bool = False

    def take(self, item: LogItem) -> None:
        self.offset += 1
        self.last_sequence = max(self.last_sequence, item.last_sequence)
        self.written_ms = item.written_ms
        self.kept_s = item.kept_s
        self.total, self.refused_total = item.total, item.refused_total
        self.closed = item.closes

    def dormant(self, now_ms: int) -> bool:
        """Returns whether nothing in the log can still count, so that it takes no more items."""
        return now_ms - self.written_ms >= (self.kept_s - FENCE_S) * 1000

    def expired(self, now_ms: int) -> bool:
        """Returns whether the store may have removed the last item."""
        return now_ms - self.written_ms > self.kept_s * 1000


def new_tail(shard: str, log: str) -> Tail:
    """Returns the tail of a log before its first item."""
    return Tail(shard, log, written_ms=int(log.rpartition("@")[2]))


def log_name(shard: str, now_ms: int) -> str:
    """Returns the name of a log that is opened at ``now_ms``."""
    return f"{shard}@{now_ms}"
