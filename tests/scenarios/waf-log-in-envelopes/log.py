"""30 log-in attempts of one client and 30 requests of another, 20 per record; one more record is truncated."""

from collections.abc import Iterator

from tests.support.records import envelope
from tests.support.scenario_lines import Arrival, control_message, waf_message


def arrivals() -> Iterator[Arrival]:
    yield Arrival(0, envelope(control_message(), kind="CONTROL_MESSAGE"))
    for batch in range(3):
        guesses = [waf_message(batch * 5 + n / 10, "203.0.113.9", host="shop.example.com") for n in range(10)]
        others = [waf_message(batch * 5 + n / 10, "198.51.100.7", uri="/", httpMethod="GET") for n in range(10)]
        yield Arrival(batch * 5 + 2, envelope(*guesses, *others))
    yield Arrival(8, envelope(*guesses)[:200])
