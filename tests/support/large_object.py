"""Imports one large object, and prints its lines, the requests counted, and the process's largest memory in MB.

``python -m tests.support.large_object 5000000``: each line is of a client of its own, as in the worst flood.
"""

import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from time import sleep, time

from chalicelib.bootstrap import World, compose
from chalicelib.config import read_config
from chalicelib.core.state.rule_sets import ACTIVE, StoredRules
from chalicelib.pipeline.import_objects import NewObject, Notification
from chalicelib.pipeline.stored import State
from chalicelib.ports import LogItem, LogObject, PartReceipt
from sluice import DEFAULT_RULES
from sluice.local.stores import MemoryStateStore, MemoryTallyLogs
from sluice.local.telemetry import ReportTotals

LINE = (
    b"%.3f\t%d.%d.%d.%d\t200\tGET\twww.example.com\t/path/%d?x=%d\tid-%012d==\tMozilla/5.0%%20(X11;%%20Linux%%20x86_64)"
    b"%%20AppleWebKit/537.36%%20(KHTML,%%20like%%20Gecko)\t-\n"
)
LINES_AT_ONCE = 1000
BLOCK_BYTES = 8 << 20


class LargeObject:
    """``LogObjects`` with one object, which is made while it is read."""

    def __init__(self, lines: int, now: float) -> None:
        self._lines = lines
        self._now = now

    def blocks(self, object: LogObject) -> Iterator[bytes]:
        packing, random, packed = zlib.compressobj(1, wbits=31), Random(1), b""
        for first in range(0, self._lines, LINES_AT_ONCE):
            numbers = range(first, min(first + LINES_AT_ONCE, self._lines))
            packed += packing.compress(b"".join(self._line(number, random) for number in numbers))
            if len(packed) >= BLOCK_BYTES:
                yield packed
                packed = b""
        yield packed + packing.flush()

    def _line(self, number: int, random: Random) -> bytes:
        moment = self._now - 600 + 500 * number / self._lines
        address = random.randrange(1, 224), *(random.randrange(256) for _ in range(3))
        return LINE % (moment, *address, number % 77, number, number)


class NoBodies(MemoryTallyLogs):
    """Tally logs that do not keep the tallies: they would be in a table, not in the function's memory."""

    def append(self, log: str, offset: int, items: Sequence[LogItem], receipt: PartReceipt | None = None) -> None:
        super().append(log, offset, [replace(item, body=b"") for item in items], receipt)


def main(lines: int) -> None:
    now = time()
    state = MemoryStateStore()
    State(state).overwrite(StoredRules(text=DEFAULT_RULES.read_text()), id=ACTIVE)
    world = World(
        tally_logs=NoBodies(),
        state=state,
        ip_sets=None,  # type: ignore[arg-type] # nothing is published here
        clock=time,
        sleep=sleep,
        telemetry=ReportTotals(),
        objects=LargeObject(lines, now),
    )
    new = NewObject(LogObject("bucket", "key", "etag"), int(now * 1000))
    report = compose(read_config({}), world).import_objects.run([Notification("one", [new])])
    assert not report.failures, report.failures
    # Not ru_maxrss, which a new process inherits from its parent.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    sys.stdout.write(f"{lines} {report.counted.requests} {int(status['VmHWM'].split()[0]) // 1024}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
