"""Ingest's CPU against the floor: the steps nobody avoids, ``json.loads`` of the event and base64 (and gunzip)."""

import json
import zlib
from binascii import a2b_base64
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from bench.events import (
    SPAN_MS,
    START_MS,
    addresses,
    cloudfront_event,
    crowd,
    envelope_event,
    flood,
    waf_event,
    wide_fields,
)
from bench.measure import Figure, paired_cpu_s
from chalicelib.core.cloudfront import DEFAULT_FIELDS
from chalicelib.core.decoding import Decoder
from chalicelib.core.rules import parse_rules
from chalicelib.core.state import Detection
from chalicelib.core.windows import View
from chalicelib.edges.events import kinesis_batch
from chalicelib.ingest import Ingest, Report
from chalicelib.tailing import Follower
from sluice.local.cloud import DEFAULT_RULES
from sluice.local.memory import MemoryTallyLogs

NOW_MS = START_MS + SPAN_MS + 12_000


def ingest(fields: tuple[str, ...] = DEFAULT_FIELDS) -> Ingest:
    """The ingest of a container, on stores in memory that cost next to nothing."""
    rules = parse_rules(DEFAULT_RULES.read_text())

    def detect(detections: Any) -> None:
        for detection in detections:
            assert isinstance(detection, Detection)

    return Ingest(
        decoder=Decoder(fields),
        rules=lambda now_ms: rules,  # noqa: ARG005
        follower=Follower(
            MemoryTallyLogs(),
            lambda rules: View(rules, sample_rate=100, most_entries=1_000_000),
            lateness_ms=300_000,
        ),
        detect=detect,
    )


def ratio(
    event: dict[str, Any], earlier: dict[str, Any], fields: tuple[str, ...], *, gunzip: bool
) -> tuple[float, float]:
    """CPU of everything but the floor's own steps, over the floor; and the records' own CPU in microseconds."""
    text = json.dumps(event)

    def unavoidable(event: dict[str, Any]) -> list[bytes]:
        data = [a2b_base64(record["kinesis"]["data"]) for record in event["Records"]]
        return [zlib.decompress(piece, wbits=31) for piece in data] if gunzip else data

    def container() -> Callable[[], object]:
        """A container that has just counted the same clients' last ten seconds."""
        warm = ingest(fields)
        before = kinesis_batch(earlier)
        warm(before, NOW_MS - SPAN_MS)
        return lambda: check(warm(kinesis_batch(event), NOW_MS))

    counted, part, least = paired_cpu_s(
        container, lambda: lambda: unavoidable(event), lambda: lambda: unavoidable(json.loads(text))
    )
    return (counted - part) / least, least


def check(report: Report) -> None:
    assert report.requests
    assert not report.malformed
    assert not report.replayed


def figures() -> Iterator[Figure]:
    nine, wide = DEFAULT_FIELDS, wide_fields()
    cases: list[tuple[str, Callable[[int], dict[str, Any]], tuple[str, ...], bool, float | None]] = [
        ("CloudFront 9 fields, quiet crowd", lambda part: cloudfront_event(quiet, nine, part), nine, False, 0.8),
        ("CloudFront 9 fields, flood", lambda part: cloudfront_event(flood, nine, part), nine, False, 0.8),
        ("CloudFront 9 fields, 8,000 addresses", lambda part: cloudfront_event(many, nine, part), nine, False, 0.8),
        ("CloudFront 46 fields, quiet crowd", lambda part: cloudfront_event(quiet, wide, part), wide, False, None),
        ("WAF JSON, quiet crowd", lambda part: waf_event(quiet, part), nine, False, 0.5),
        ("WAF JSON, flood", lambda part: waf_event(flood, part), nine, False, 0.5),
        ("WAF envelopes, quiet crowd", lambda part: envelope_event(quiet, part), nine, True, 1.0),
        ("WAF envelopes, flood", lambda part: envelope_event(flood, part), nine, True, 1.0),
    ]
    for name, make, fields, gunzip, budget in cases:
        event = make(1)
        value, floor = ratio(event, make(0), fields, gunzip=gunzip)
        how = f"{len(event['Records'])} records; floor {floor * 1000:.1f} ms: json.loads, base64" + ", gunzip" * gunzip
        yield Figure(f"ingest CPU / floor: {name}", value, "x", budget, how)


def quiet(rng: Random) -> Callable[[], str]:
    return crowd(rng, 3000)


def many(rng: Random) -> Callable[[], str]:
    """Everybody equally keen."""
    some = addresses(rng, 8000)
    return lambda: rng.choice(some)
