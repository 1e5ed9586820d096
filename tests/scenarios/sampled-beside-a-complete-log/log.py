"""11 and 101 events of two clients in AWS WAF's log, and 11 lines of a third in CloudFront's."""

from collections.abc import Iterator

from tests.support.scenario_lines import Arrival, request, waf_message


def arrivals() -> Iterator[Arrival]:
    for number in range(11):
        yield Arrival(number + 0.5, waf_message(number, "198.51.100.9"))
        yield request(number, "203.0.113.9")
    for number in range(101):
        yield Arrival(20 + number / 10, waf_message(20 + number / 10, "203.0.113.7"))
