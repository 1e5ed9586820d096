"""Three films for .1, sixty thumbnails for .9."""

from collections.abc import Iterator

from tests.support.records import cloudfront
from tests.support.scenario_lines import START, Arrival

FIELDS = ("timestamp", "c-ip", "sc-status", "sc-bytes", "x-edge-request-id", "time-taken")


def arrivals() -> Iterator[Arrival]:
    for number in range(3):
        yield response(number * 10, "203.0.113.1", 4_000_000, f"film-{number}")
    for number in range(60):
        yield response(number / 2, "203.0.113.9", 50_000, f"thumbnail-{number}")


def response(at: float, client: str, size: int, id: str) -> Arrival:
    cells = {"timestamp": f"{START + at:.3f}", "c_ip": client, "sc_bytes": str(size), "x_edge_request_id": id}
    return Arrival(at + 0.5, cloudfront(FIELDS, **cells) + b"\n")
