"""Log lines of every format for the same requests, rules for them, and a slow but obviously correct count."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from random import Random

from hypothesis import strategies as st

from chalicelib.core.logs.cloudfront_standard import VERSION_1
from chalicelib.core.rules import Rule, RuleSet
from chalicelib.core.rules_toml import parse_rules
from sluice.logs.files import Chunk

T0 = 1_760_000_000_000
S0 = T0 // 1000
ME = "192.0.2.1"


@dataclass(frozen=True)
class Hit:
    ms: int
    client: str
    path: str = "/"
    method: str = "GET"
    status: str = "200"
    host: str = "www.example.com"
    agent: str = "curl/8.5.0"


def _when(hit: Hit) -> datetime:
    return datetime.fromtimestamp(hit.ms // 1000, UTC)


def realtime(hit: Hit) -> str:
    stamp = f"{hit.ms // 1000}.{hit.ms % 1000:03d}"
    cells = (stamp, hit.client, hit.status, hit.method, hit.host, hit.path, "id==", hit.agent, "-")
    return "\t".join(cells)


def standard(hit: Hit) -> str:
    known = {
        "date": f"{_when(hit):%Y-%m-%d}",
        "time": f"{_when(hit):%H:%M:%S}",
        "c-ip": hit.client,
        "cs-method": hit.method,
        "cs(Host)": "d111111abcdef8.cloudfront.net",
        "x-host-header": hit.host,
        "cs-uri-stem": hit.path,
        "sc-status": hit.status,
        "cs(User-Agent)": hit.agent,
    }
    return "\t".join(known.get(name, "-") for name in VERSION_1)


STANDARD_HEADER = "#Version: 1.0\n#Fields: " + " ".join(VERSION_1) + "\n"

V2_FIELDS = ("timestamp(ms)", "c-ip", "cs-method", "x-host-header", "cs-uri-stem", "sc-status", "cs(User-Agent)")
V2_HEADER = "#Fields: " + " ".join(V2_FIELDS) + "\n"


def _v2(hit: Hit) -> tuple[str, ...]:
    return str(hit.ms), hit.client, hit.method, hit.host, hit.path, hit.status, hit.agent


def v2_w3c(hit: Hit) -> str:
    return "\t".join(_v2(hit))


def v2_json(hit: Hit) -> str:
    return json.dumps(dict(zip(V2_FIELDS, _v2(hit), strict=True)))


def waf(hit: Hit) -> str:
    request = {
        "clientIp": hit.client,
        "country": "DE",
        "headers": [{"name": "Host", "value": hit.host}, {"name": "user-agent", "value": hit.agent}],
        "uri": hit.path,
        "httpMethod": hit.method,
        "requestId": "id==",
    }
    return json.dumps(
        {"timestamp": hit.ms, "action": "ALLOW", "responseCodeSent": int(hit.status), "httpRequest": request}
    )


def envelope(hits: Iterable[Hit]) -> str:
    events = [{"id": str(n), "timestamp": hit.ms, "message": waf(hit)} for n, hit in enumerate(hits)]
    return json.dumps({"messageType": "DATA_MESSAGE", "owner": "1", "logEvents": events}, separators=(",", ":"))


def balancer(hit: Hit) -> str:
    stamp = f"{_when(hit):%Y-%m-%dT%H:%M:%S}.{hit.ms % 1000:03d}000Z"
    client = f"[{hit.client}]" if ":" in hit.client else hit.client
    return (
        f"https {stamp} app/lb/50dc6c495c0c9188 {client}:2817 10.0.0.1:80 0.086 0.048 0.037 {hit.status} 200 0 57 "
        f'"{hit.method} https://{hit.host}:443{hit.path}?a=1 HTTP/1.1" "{hit.agent}" ECDHE TLSv1.2 arn:aws:x '
        f'"Root=1-58337281" "{hit.host}" "-" 0 {stamp} "forward" "-" "-" "10.0.0.1:80" "200" "-" "-"'
    )


def combined(hit: Hit) -> str:
    stamp = f"{_when(hit):%d/%b/%Y:%H:%M:%S} +0000"
    return f'{hit.client} - - [{stamp}] "{hit.method} {hit.path}?q=1 HTTP/1.1" {hit.status} 512 "-" "{hit.agent}"'


def chunk(lines: Iterable[str], header: str = "") -> Chunk:
    return Chunk((header + "\n".join(lines) + "\n").encode())


def network(rule: Rule, client: str) -> str:
    address = ip_address(client)
    if address.version == 6 and address.ipv4_mapped:
        address = address.ipv4_mapped
    return str(ip_network((address, rule.ipv4_prefix if address.version == 4 else rule.ipv6_prefix), strict=False))


def busiest_span(times: Sequence[int], length_ms: int) -> int:
    """Returns the most requests within any half-open span of ``length_ms``."""
    return max(sum(start <= time < start + length_ms for time in times) for start in times)


def must_and_may(rule: Rule, hits: Iterable[Hit]) -> tuple[set[str], set[str]]:
    """Returns the clients that must be named (G2: over the limit in window - slot), and those that may (G1: in a
    window)."""
    times = defaultdict(list)
    for hit in hits:
        times[network(rule, hit.client)].append(hit.ms)
    window_ms = rule.window_s * 1000
    must = {c for c, t in times.items() if busiest_span(t, window_ms - rule.slot_ms) > rule.limit}
    may = {c for c, t in times.items() if busiest_span(t, window_ms) > rule.limit}
    return must, may


def peak(rule: Rule, times: Sequence[int]) -> int:
    """Returns the most requests in ``resolution`` consecutive slots."""
    slots = [time // rule.slot_ms for time in times]
    return max(sum(first <= slot < first + rule.resolution for slot in slots) for first in slots)


def one_rule(limit: int, window: str = "1s", more: str = "") -> RuleSet:
    return parse_rules(f'[[rule]]\nname = "r"\nlimit = {limit}\nwindow = "{window}"\n{more}\n')


def rules_of(*tables: str) -> RuleSet:
    return parse_rules("\n".join(f"[[rule]]\n{table}" for table in tables))


def every(seconds: float, start: float, end: float, client: str = ME, path: str = "/") -> list[Hit]:
    """Returns a request each ``seconds`` from ``start`` (inclusive) to ``end`` (exclusive), in seconds after T0."""
    steps = round((end - start) / seconds)
    return [Hit(T0 + round((start + seconds * n) * 1000), client, path=path) for n in range(steps)]


CLIENTS = (
    "192.0.2.1",
    "192.0.2.2",
    "198.51.100.7",
    "2001:db8::1",
    "2001:DB8:0:0:1::",
    "2001:db8:0:1::1",
    "::ffff:192.0.2.1",
)

moments = st.builds(
    lambda window, slot, off: T0 + window * 1000 + slot * 10 + off,
    st.integers(-2, 3),
    st.integers(0, 3),
    st.sampled_from([0, 1, 9, -1, 5]),
)
"""Times close to the edges of slots (10 ms) and windows (1 s), before and after."""

hits = st.lists(st.builds(Hit, moments, st.sampled_from(CLIENTS)), max_size=40)

MILLISECOND_FORMATS: dict[str, tuple[Callable[[Hit], str], str]] = {
    "real-time": (realtime, ""),
    "v2 w3c": (v2_w3c, V2_HEADER),
    "v2 json": (v2_json, ""),
    "waf": (waf, ""),
    "load balancer": (balancer, ""),
}
"""Line and header of the formats with times in milliseconds."""

SECOND_FORMATS: dict[str, tuple[Callable[[Hit], str], str]] = {
    "v1": (standard, STANDARD_HEADER),
    "combined": (combined, ""),
}
"""Line and header of the formats with times in whole seconds."""

THREE = [Hit(T0 + 1000 * n, ME) for n in range(3)]
TEXTS = {
    "real-time": "\n".join(map(realtime, THREE)) + "\n",
    "v1": STANDARD_HEADER + "\n".join(map(standard, THREE)) + "\n",
    "v1 without header": "\n".join(map(standard, THREE)) + "\n",
    "v2 w3c": V2_HEADER + "\n".join(map(v2_w3c, THREE)) + "\n",
    "v2 json": "\n".join(map(v2_json, THREE)) + "\n",
    "waf": "\n".join(map(waf, THREE)) + "\n",
    "envelope": envelope(THREE),
    "envelopes end to end": envelope(THREE[:1]) + envelope(THREE[1:]),
    "load balancer": "\n".join(map(balancer, THREE)) + "\n",
    "combined": "\n".join(map(combined, THREE)) + "\n",
}
"""The same three requests in every format."""

PEOPLE, MACHINES = 1200, 3


def site(hours: float = 2) -> list[Hit]:
    """Returns requests of people, who load pages of up to 12 objects, and machines with 30 requests per second."""
    random = Random(5)
    requests = []
    for number in range(PEOPLE):
        client = f"198.51.{number // 250}.{number % 250}"
        for _ in range(2):
            start = random.uniform(0, hours * 3600)
            requests += every(0.05, start, start + 0.05 * random.randint(3, 12), client)
    for number in range(MACHINES):
        requests += every(1 / 30, 600 * number, 600 * number + 20, f"192.0.2.{number}")
    return requests


def fleet(at: int, each: int = 11) -> list[Hit]:
    """Returns requests of eight clients of 192.0.2.0/24, ``each`` within the second ``at``."""
    return [Hit(at * 1000 + k, f"192.0.2.{host}") for host in range(0, 240, 30) for k in range(each)]


def since_days(before: int) -> list[Hit]:
    """Returns requests of 198.51.100.7 in each hour from two days before an epoch second to three hours after it."""
    return [Hit((before - 2 * 86400 + hour * 3600) * 1000, "198.51.100.7") for hour in range(52)]
