"""Log lines of every format for the same hits, and the slow, obvious oracle."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network

from chalicelib.core.rules import Rule
from sluice.logs.cloudfront_standard import VERSION_1
from sluice.logs.file_decoder import Chunk

T0 = 1_760_000_000_000


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


def block(lines: Iterable[str], header: str = "") -> Chunk:
    return Chunk((header + "\n".join(lines) + "\n").encode())


def network(rule: Rule, client: str) -> str:
    address = ip_address(client)
    if address.version == 6 and address.ipv4_mapped:
        address = address.ipv4_mapped
    return str(ip_network((address, rule.ipv4_prefix if address.version == 4 else rule.ipv6_prefix), strict=False))


def busiest_span(times: Sequence[int], length_ms: int) -> int:
    """The most requests within any half-open span of ``length_ms``."""
    return max(sum(start <= time < start + length_ms for time in times) for start in times)


def must_and_may(rule: Rule, hits: Iterable[Hit]) -> tuple[set[str], set[str]]:
    """Who has to be named (G2), and who may be (G1): over the limit in window - slot, and in window."""
    times = defaultdict(list)
    for hit in hits:
        times[network(rule, hit.client)].append(hit.ms)
    window_ms = rule.window_s * 1000
    must = {c for c, t in times.items() if busiest_span(t, window_ms - rule.slot_ms) > rule.limit}
    may = {c for c, t in times.items() if busiest_span(t, window_ms) > rule.limit}
    return must, may


def peak(rule: Rule, times: Sequence[int]) -> int:
    """The most requests in ``resolution`` slots in a row."""
    slots = [time // rule.slot_ms for time in times]
    return max(sum(first <= slot < first + rule.resolution for slot in slots) for first in slots)
