"""60 requests, each in both logs."""

from collections.abc import Iterator

from tests.support.records import waf_text
from tests.support.scenario_lines import START, Arrival, request


def arrivals() -> Iterator[Arrival]:
    for number in range(60):
        at, id = number / 10, f"both-{number}=="
        yield request(at, "203.0.113.9", x_edge_request_id=id)
        text = waf_text(timestamp=round((START + at) * 1000), clientIp="203.0.113.9", requestId=id)
        yield Arrival(at + 0.5, text)
