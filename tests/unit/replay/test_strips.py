"""A spool returns its strips as they were, whether from memory or from its file."""

from array import array

from chalicelib.core.logs.requests import Source
from sluice.replay.strips import Spool, Strip


def test_strips_return_from_memory_and_from_the_file_any_number_of_times() -> None:
    times, rows = array("Q", [1, 2, 1]), array("I", [0, 2])
    strips = [Strip(Source.WAF, [bytes([192, 0, 2, number])] * 3, times, (None, rows), rows) for number in range(4)] + [
        Strip(Source.WAF, [bytes(16)] * 3, times, (None, rows), array("I"))
    ]
    with Spool(in_memory_requests=4) as spool:
        for strip in strips:
            spool.append(strip)
        assert list(spool) == strips
        assert list(spool) == strips
