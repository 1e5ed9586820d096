"""Ingest's CPU against the unavoidable steps: ``json.loads`` of the event, base64 and, for envelopes, gunzip."""

import json
import zlib
from binascii import a2b_base64
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

from bench.events import (
    SPAN_MS,
    START_MS,
    Crowd,
    addresses,
    cloudfront_event,
    crowd,
    envelope_event,
    flood,
    waf_event,
    wide_fields,
)
from bench.measure import MEASURED_RULES, Figure, paired_cpu_s
from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.logs.cloudfront import DEFAULT_FIELDS
from chalicelib.core.rules_toml import parse_rules
from chalicelib.core.sampling import WHOLE_LOG
from chalicelib.edges.events import kinesis_batch
from chalicelib.pipeline.active_rules import RulesInUse
from chalicelib.pipeline.ingest import Ingest
from chalicelib.pipeline.log_writer import LogWriter
from chalicelib.ports import TallyLogs
from chalicelib.reports import IngestReport
from sluice import DEFAULT_RULES
from sluice.local.stores import MemoryTallyLogs

NOW_MS = START_MS + SPAN_MS + 12_000


def ingest(
    fields: tuple[str, ...] = DEFAULT_FIELDS, logs: TallyLogs | None = None, rules_file: Path = MEASURED_RULES
) -> Ingest:
    """Returns the ingest of one container; without ``logs``, over stores in memory, whose cost is negligible."""
    rules = parse_rules(rules_file.read_text())
    return Ingest(
        decoder=BatchDecoder(fields),
        rules=lambda now_ms: RulesInUse(rules),  # noqa: ARG005
        writer=LogWriter(MemoryTallyLogs() if logs is None else logs),
        portraits_of=WHOLE_LOG,
    )


def ratio(
    event: dict[str, Any], earlier: dict[str, Any], fields: tuple[str, ...], rules_file: Path, *, gunzip: bool
) -> tuple[float, float]:
    """Returns the CPU time of everything but the floor's steps in units of the floor, and the floor in seconds."""
    text = json.dumps(event)

    # Unpacked envelopes are dropped immediately: the strictest floor, because no consumer has to keep them all.
    def unavoidable(event: dict[str, Any]) -> list[bytes]:
        data = [a2b_base64(record["kinesis"]["data"]) for record in event["Records"]]
        for piece in data if gunzip else ():
            zlib.decompress(piece, wbits=31)
        return data

    def container() -> Callable[[], object]:
        """Returns a container that has just counted the previous ten seconds of the same clients."""
        warm = ingest(fields, rules_file=rules_file)
        before = kinesis_batch(earlier)
        warm.run(before, NOW_MS - SPAN_MS)
        return lambda: check(warm.run(kinesis_batch(event), NOW_MS))

    counted, part, least = paired_cpu_s(
        container, lambda: lambda: unavoidable(event), lambda: lambda: unavoidable(json.loads(text))
    )
    return (counted - part) / least, least


def check(report: IngestReport) -> None:
    assert report.requests
    assert not report.malformed
    assert not report.replayed


INITIAL = ", the initial rules"
"""End of the names of cases with the rules that setup installs, which look at the path of every request."""

CASES: dict[str, tuple[str, str, float | None]] = {
    "CloudFront 9 fields, quiet crowd": ("nine", "quiet", 0.6),
    "CloudFront 9 fields, flood": ("nine", "flood", 0.6),
    "CloudFront 9 fields, 8,000 addresses": ("nine", "many", 0.6),
    "CloudFront 46 fields, quiet crowd": ("wide", "quiet", None),
    "WAF JSON, quiet crowd": ("waf", "quiet", 0.3),
    "WAF JSON, flood": ("waf", "flood", 0.3),
    "WAF envelopes, quiet crowd": ("envelopes", "quiet", 1.5),
    "WAF envelopes, flood": ("envelopes", "flood", 1.5),
    f"CloudFront 9 fields, quiet crowd{INITIAL}": ("nine", "quiet", 1.0),
    f"CloudFront 9 fields, flood{INITIAL}": ("nine", "flood", 1.0),
}
"""Case to format, crowd and budget."""


def figures() -> Iterator[Figure]:
    # Each case runs in a separate interpreter, as a container does: earlier allocations of other sizes change the
    # cost of memory in a process.
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as fresh:
        for name in CASES:
            yield fresh.submit(measured, name).result()


def measured(name: str) -> Figure:
    form, crowd, budget = CASES[name]
    clients = {"quiet": quiet, "flood": flood, "many": many}[crowd]
    fields = wide_fields() if form == "wide" else DEFAULT_FIELDS
    earlier, event = (_event(form, clients, fields, part) for part in (0, 1))
    gunzip = form == "envelopes"
    rules_file = DEFAULT_RULES if name.endswith(INITIAL) else MEASURED_RULES
    value, floor = ratio(event, earlier, fields, rules_file, gunzip=gunzip)
    requests = ingest(fields, rules_file=rules_file).run(kinesis_batch(event), NOW_MS).requests
    how = (
        f"{requests:,} requests, {value * floor / requests * 1e6:.1f} µs each; "
        f"floor {floor * 1000:.1f} ms: json.loads, base64" + ", gunzip" * gunzip
    )
    return Figure(f"ingest CPU / floor: {name}", value, "x", budget, how)


def _event(form: str, clients: Crowd, fields: tuple[str, ...], part: int) -> dict[str, Any]:
    if form == "envelopes":
        return envelope_event(clients, part)
    return waf_event(clients, part) if form == "waf" else cloudfront_event(clients, fields, part)


def quiet(rng: Random) -> Callable[[], str]:
    return crowd(rng, 3000)


def many(rng: Random) -> Callable[[], str]:
    """Clients that are equally likely, unlike those of a crowd."""
    clients = addresses(rng, 8000)
    return lambda: rng.choice(clients)
