"""Very many strangers exceed a limit within a minute, beside clients that have come for a day: who is refused."""

import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from bench.measure import Figure
from tests.support.edge_stories import BURST, played, refused, strangers_among_regulars

STRANGERS, REGULARS = 50_000, 2_000
IP_SETS = 6


def figures() -> Iterator[Figure]:
    requests, strangers = strangers_among_regulars(STRANGERS, REGULARS, Random(1))
    begun = time.process_time()
    with TemporaryDirectory() as folder:
        result = played(Path(folder), requests, BURST, edge_s=1, options=["--ip-sets", str(IP_SETS)])
    seconds = time.process_time() - begun
    how = f"{len(requests):,} requests through sluice demo --traffic FILE --edge 1"
    by_demo = refused(result)
    yield Figure(
        f"strangers over a limit that are refused, of {STRANGERS:,}",
        len(by_demo & strangers),
        "clients",
        STRANGERS,
        f"{how} --ip-sets {IP_SETS}, in {seconds:.0f} s of CPU",
        at_least=True,
    )
    yield Figure(
        f"regulars beside them that are refused, of {REGULARS:,}",
        len(by_demo - strangers),
        "clients",
        0,
        "they came four times in a day and a half, and once during the attack",
    )
    yield Figure("rules that the strangers have stopped", len(result["breaker"]), "rules", 0, "the same run")
