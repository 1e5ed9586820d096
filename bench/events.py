"""Synthetic Lambda events of 6 MB in the shape of real ones: crowds and floods, from CloudFront and WAF."""

import gzip
import json
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address
from random import Random
from typing import Any

from chalicelib.core.logs.cloudfront import FIELDS
from sluice.local.events import MOST_BYTES, MOST_RECORDS, kinesis_event
from sluice.local.kinesis import StreamRecord

START_MS = 1_760_000_000_000
SPAN_MS = 10_000
"""A shard takes 1,000 records per second, so an event of nearly 10,000 spans ten seconds."""

AGENTS = (
    "Mozilla/5.0%20(Windows%20NT%2010.0;%20Win64;%20x64)%20AppleWebKit/537.36%20Chrome/141.0.0.0%20Safari/537.36",
    "Mozilla/5.0%20(iPhone;%20CPU%20iPhone%20OS%2018_5%20like%20Mac%20OS%20X)%20AppleWebKit/605.1.15%20Safari/604.1",
    "curl/8.5.0",
)


def addresses(rng: Random, number: int) -> list[str]:
    """Returns random addresses: nine in ten IPv4, the rest IPv6."""
    texts: list[str] = []
    for _ in range(number):
        v4 = str(IPv4Address(rng.randrange(1 << 24, 223 << 24)))
        texts.append(v4 if rng.random() < 0.9 else str(IPv6Address((0x2001 << 112) | rng.getrandbits(100))))
    return texts


def crowd(rng: Random, clients: int) -> Callable[[], str]:
    """Returns a function that draws the client of a request: some are far more active than others, as visitors are."""
    texts = addresses(rng, clients)
    return lambda: texts[int(clients * rng.random() ** 2)]


def flood(rng: Random) -> Callable[[], str]:
    """Returns a function that draws the client of a request: nine times in ten, one of the same twenty."""
    attackers, others = addresses(rng, 20), addresses(rng, 500)
    return lambda: rng.choice(attackers if rng.random() < 0.9 else others)


def times(rng: Random, part: int) -> Iterator[int]:
    """Yields epoch milliseconds in roughly ascending order; part 1 follows part 0."""
    at = float(part * SPAN_MS)
    while True:
        at += SPAN_MS / MOST_RECORDS
        yield START_MS + int(at) + rng.randrange(300)


def cloudfront_record(rng: Random, time_ms: int, address: str, number: int, names: tuple[str, ...]) -> bytes:
    values = {
        "timestamp": f"{time_ms // 1000}.{time_ms % 1000:03d}",
        "c-ip": address,
        "sc-status": rng.choices(("200", "304", "404", "403"), (85, 8, 5, 2))[0],
        "cs-method": rng.choices(("GET", "POST"), (94, 6))[0],
        "cs-host": "www.example.com",
        "cs-uri-stem": rng.choice((f"/img/{number % 5000}.png", "/", f"/search?q={number}", "/login")),
        "x-edge-request-id": rng.randbytes(42).hex()[:54] + "==",
        "cs-user-agent": rng.choice(AGENTS),
    }
    default = "-" if len(names) < 12 else "some-value-here"
    return ("\t".join(values.get(name, default) for name in names) + "\n").encode()


def waf_record(rng: Random, time_ms: int, address: str, number: int) -> bytes:
    headers = [
        {"name": "host", "value": "www.example.com"},
        {"name": "user-agent", "value": rng.choice(AGENTS)},
        {"name": "accept", "value": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"},
        {"name": "accept-language", "value": "en-GB,en;q=0.9,de;q=0.8"},
        {"name": "cookie", "value": "session=" + rng.randbytes(24).hex()},
    ]
    request = {
        "clientIp": address,
        "country": rng.choice(("DE", "US", "FR")),
        "headers": headers,
        "uri": rng.choice((f"/img/{number % 5000}.png", "/", "/search", "/login")),
        "args": f"q={number}",
        "httpVersion": "HTTP/2.0",
        "httpMethod": rng.choices(("GET", "POST"), (94, 6))[0],
        "requestId": rng.randbytes(42).hex()[:54] + "==",
        "scheme": "https",
        "host": "www.example.com",
    }
    rule = {"rateBasedRuleId": "0b6f6f4a", "rateBasedRuleName": "rbr", "limitKey": "IP", "maxRateAllowed": 2000}
    record = {
        "timestamp": time_ms,
        "formatVersion": 1,
        "webaclId": "arn:aws:wafv2:us-east-1:111122223333:global/webacl/edge/1111aaaa-0000-0000-0000-000000000000",
        "terminatingRuleId": "Default_Action",
        "terminatingRuleType": "REGULAR",
        "action": "ALLOW",
        "terminatingRuleMatchDetails": [],
        "httpSourceName": "CF",
        "httpSourceId": "E2EXAMPLE",
        "ruleGroupList": [],
        "rateBasedRuleList": [{**rule, "evaluationWindowSec": "300", "limitValue": address}],
        "nonTerminatingMatchingRules": [],
        "requestHeadersInserted": None,
        "responseCodeSent": None,
        "httpRequest": request,
        "labels": [{"name": "awswaf:clientip:geo:country:DE"}],
        "ja3Fingerprint": rng.randbytes(16).hex(),
        "ja4Fingerprint": "t13d1516h2_8daaf6152771_b0da82dd1658",
        "requestBodySize": 0,
        "requestBodySizeInspectedByWAF": 0,
    }
    return json.dumps(record, separators=(",", ":")).encode()


def envelope(messages: list[bytes], number: int) -> bytes:
    """Returns a record of a CloudWatch Logs subscription."""
    events = [
        {"id": f"{number:040d}{index:016d}", "timestamp": START_MS, "message": message.decode()}
        for index, message in enumerate(messages)
    ]
    text = {
        "messageType": "DATA_MESSAGE",
        "owner": "111122223333",
        "logGroup": "aws-waf-logs-edge",
        "logStream": "cloudfront_edge_0",
        "subscriptionFilters": ["sluice"],
        "logEvents": events,
    }
    return gzip.compress(json.dumps(text).encode(), 6)


def event(records: Iterator[bytes], part: int) -> dict[str, Any]:
    """Returns one Lambda event with as many of ``records`` as fit."""
    taken: list[StreamRecord] = []
    size, sequence = 0, (1 + part) * 10**55 + 49_590_338_271_490_256_608_559_692_538_361_571_095_921_575_989_136_588_898
    for number, data in enumerate(records):
        size += len(data) * 4 // 3 + 470
        if size > MOST_BYTES or number >= MOST_RECORDS:
            break
        taken.append(StreamRecord(sequence + number * 7919, data, (START_MS + part * SPAN_MS) / 1000 + 11))
    return kinesis_event("logs", "shardId-000000000000", taken)


Crowd = Callable[[Random], Callable[[], str]]


def cloudfront_event(clients: Crowd, names: tuple[str, ...], part: int) -> dict[str, Any]:
    client, rng = clients(Random(7)), Random(f"cloudfront {part}")
    records = (cloudfront_record(rng, at, client(), number, names) for number, at in enumerate(times(rng, part)))
    return event(records, part)


def wide_fields() -> tuple[str, ...]:
    """Returns 46 fields: all without the newer ``s-ip``."""
    return tuple(name for name in FIELDS if name != "s-ip")[:46]


def waf_event(clients: Crowd, part: int) -> dict[str, Any]:
    client, rng = clients(Random(8)), Random(f"waf {part}")
    return event((waf_record(rng, at, client(), number) for number, at in enumerate(times(rng, part))), part)


def envelope_event(clients: Crowd, part: int, per_record: int = 50) -> dict[str, Any]:
    """Returns 10,000 WAF records in envelopes of ``per_record`` each: an event of about 3 MB."""
    client, rng = clients(Random(9)), Random(f"envelope {part}")
    ticks = times(rng, part)

    def envelopes() -> Iterator[bytes]:
        for number in range(MOST_RECORDS // per_record):
            messages = [waf_record(rng, next(ticks), client(), number * per_record + n) for n in range(per_record)]
            yield envelope(messages, number)

    return event(envelopes(), part)
