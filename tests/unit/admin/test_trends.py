"""Trends, as the API shows them: whole steps, their sum, and the same time a day and a week before."""

import pytest

from chalicelib.core.durations import DAY_S, HOUR_S
from chalicelib.core.state.trends import QUARTER_S, Traffic, Trend
from tests.support.admin_api import Desk


@pytest.fixture
def over(desk: Desk) -> int:
    """Returns the end of the latest quarter hour, in epoch seconds."""
    return desk.now // QUARTER_S * QUARTER_S


def put(desk: Desk, *traffic: Traffic) -> None:
    hours: dict[int, list[Traffic]] = {}
    for each in traffic:
        hours.setdefault(each.at // HOUR_S * HOUR_S, []).append(each)
    desk.services.state.overwrite(*(Trend(hour=hour, quarters=tuple(each)) for hour, each in hours.items()))


def quarters(first: int, last: int, requests: int = 10) -> list[Traffic]:
    """Returns equal traffic from ``first`` to ``last``, in epoch seconds."""
    return [
        Traffic(at=at, measured_s=QUARTER_S, requests=requests, refused=3, offences=2, blocks=1, most_blocked=at % 7)
        for at in range(first, last, QUARTER_S)
    ]


@pytest.mark.parametrize(
    ("span", "step_s", "points"),
    [("15m", 900, 1), ("1h", 900, 4), ("6h", 900, 24), ("1d", 900, 96), ("7d", 3600, 168), ("31d", 14_400, 186)],
)
def test_a_span_has_few_steps_that_add_up_to_its_sum(
    desk: Desk, over: int, span: str, step_s: int, points: int
) -> None:
    put(desk, *quarters(over - 32 * DAY_S, over))
    answer = desk.call("GET", "/v1/trends", span=span).json
    assert (answer["until"], answer["step_s"], len(answer["points"])) == (over, step_s, points)
    assert [point["at"] for point in answer["points"]] == list(range(answer["since"], over, step_s))
    for field in ("measured_s", "requests", "refused", "offences", "blocks"):
        assert sum(point[field] for point in answer["points"]) == answer["total"][field]
    assert answer["total"]["measured_s"] == step_s * points
    assert answer["total"]["requests"] == 10 * answer["total"]["measured_s"] // QUARTER_S
    assert max(point["most_blocked"] for point in answer["points"]) == answer["total"]["most_blocked"]


@pytest.mark.parametrize("span", ["1h", "1425m", "1d"])
def test_the_same_time_of_the_day_and_the_week_before_is_summed_beside_it(desk: Desk, over: int, span: str) -> None:
    put(
        desk,
        *quarters(over - HOUR_S, over, 1),
        *quarters(over - DAY_S - HOUR_S, over - DAY_S, 20),
        *quarters(over - 7 * DAY_S - HOUR_S, over - 7 * DAY_S, 300),
    )
    answer = desk.call("GET", "/v1/trends", span=span).json
    sums = [answer[name]["requests"] for name in ("total", "day_before", "week_before")]
    assert sums == [4, 80, 1200]


def test_a_time_that_is_over_has_its_own_steps(desk: Desk, over: int) -> None:
    put(desk, *quarters(over - 10 * DAY_S, over - 9 * DAY_S, 7), *quarters(over - 9 * DAY_S, over, 1))
    answer = desk.call("GET", "/v1/trends", span="2h", until=over - 9 * DAY_S + HOUR_S + 899).json
    assert (answer["until"], answer["step_s"]) == (over - 9 * DAY_S + HOUR_S, QUARTER_S)
    assert [point["requests"] for point in answer["points"]] == [7] * 4 + [1] * 4
    assert answer["day_before"]["requests"] == 4 * 7
    later = desk.call("GET", "/v1/trends", span="1h", until=over + DAY_S).json
    assert later["until"] == over
    refused = desk.call("GET", "/v1/trends", span="1h", until=over - 39 * DAY_S)
    assert (refused.status, refused.fields) == (422, ["until"])


def test_quarter_hours_that_were_not_added_up_are_no_traffic_of_zero(desk: Desk, over: int) -> None:
    put(desk, *quarters(over - QUARTER_S, over))
    answer = desk.call("GET", "/v1/trends", span="1h").json
    assert [point["measured_s"] for point in answer["points"]] == [0, 0, 0, QUARTER_S]
    assert (answer["total"]["measured_s"], answer["day_before"]["measured_s"]) == (QUARTER_S, 0)


def test_what_was_added_up_late_is_divided_among_the_time_that_it_covers(desk: Desk, over: int) -> None:
    late = Traffic(at=over - QUARTER_S, measured_s=2 * HOUR_S + 30, requests=801, offences=8, most_blocked=5, more=True)
    put(desk, late)
    answer = desk.call("GET", "/v1/trends", span="6h").json
    recorded = [point for point in answer["points"] if point["measured_s"]]
    assert [point["at"] for point in recorded] == list(range(over - 2 * HOUR_S, over, QUARTER_S))
    assert {(p["requests"], p["offences"], p["most_blocked"], p["averaged"], p["more"]) for p in recorded} <= {
        (requests, 1, 5, True, True) for requests in (100, 101)
    }
    assert answer["total"]["requests"] == 801
    assert answer["total"]["averaged"]
    latest = desk.call("GET", "/v1/trends", span="1h").json["total"]
    assert (latest["requests"], latest["offences"]) == (401, 4)


def test_a_sweep_that_is_a_minute_late_makes_no_average(desk: Desk, over: int) -> None:
    put(desk, Traffic(at=over - QUARTER_S, measured_s=QUARTER_S + 119, requests=7))
    total = desk.call("GET", "/v1/trends", span="1h").json["total"]
    assert (total["requests"], total["measured_s"], total["averaged"]) == (7, QUARTER_S + 119, False)


def test_until_the_sweep_has_added_up_the_latest_quarter_hour_the_trends_end_before_it(desk: Desk) -> None:
    while desk.now % QUARTER_S:
        desk.clock.wait_until(desk.now + 1)
    over = desk.now
    put(desk, *quarters(over - DAY_S, over - QUARTER_S))
    answer = desk.call("GET", "/v1/trends", span="1h").json
    assert (answer["until"], answer["total"]["measured_s"]) == (over - QUARTER_S, HOUR_S)
    desk.clock.wait_until(over + 121)
    answer = desk.call("GET", "/v1/trends", span="1h").json
    assert (answer["until"], answer["points"][-1]["measured_s"]) == (over, 0)


@pytest.mark.parametrize("span", ["14m", "32d", "0s", "1w", ""])
def test_a_span_that_is_not_kept_is_refused_with_the_form_that_is_accepted(desk: Desk, span: str) -> None:
    reply = desk.call("GET", "/v1/trends", span=span)
    assert (reply.status, reply.fields) == (422, ["span"])


def test_a_month_is_read_in_two_pages_at_most(desk: Desk, over: int) -> None:
    """DynamoDB answers with up to 1 MB per page."""
    put(desk, *quarters(over - 38 * DAY_S, over, 1_000_000))
    size = sum(len(item.body) for item in desk.services.state.items(Trend))
    assert size < 1 << 20


def test_the_requests_of_the_cloud_become_a_trend(desk: Desk) -> None:
    desk.run(5)  # until the first sweep
    desk.requests("192.0.2.1", 10)
    desk.requests("203.0.113.9", 7, status=429)
    desk.attack("203.0.113.9")
    desk.run(2 * QUARTER_S)
    answer = desk.call("GET", "/v1/trends", span="1h").json
    total = answer["total"]
    assert (total["requests"], total["refused"], total["offences"], total["blocks"]) == (17 + 40, 7, 1, 1)
    assert total["most_blocked"] == 1
