"""The history: who was blocked, why, by which rule, until when, and what count rules would have done."""

from typing import Any, get_args

import pytest

from chalicelib.admin import history
from chalicelib.admin.schemas import EventOutcome
from chalicelib.core.durations import DAY_S
from chalicelib.core.state.events import EVENT_OUTCOMES, Event, Events
from chalicelib.pipeline.stored import State
from tests.support.admin_api import Desk


def events(desk: Desk, **query: Any) -> list[dict[str, Any]]:
    """Returns the matching events on all pages."""
    listed: list[dict[str, Any]] = []
    cursor: dict[str, Any] = {}
    while True:
        page = desk.call("GET", "/v1/history", **query, **cursor).json
        listed += page["events"]
        if page["next"] is None:
            return listed
        cursor = {"cursor": page["next"]}


def record(desk: Desk, at: int, *recorded: Event) -> None:
    State(desk.cloud.state).overwrite(Events(at_ms=at * 1000, events=recorded))


def numbered(number: int, **fields: Any) -> Event:
    fields = {"outcome": "blocked", "rule": "burst", "until": 1, **fields}
    return Event(network=f"198.51.{number // 250}.{number % 250}/32", **fields)


def test_every_outcome_of_an_event_can_be_asked_for() -> None:
    assert list(get_args(EventOutcome)) == EVENT_OUTCOMES


@pytest.mark.slow
def test_it_says_who_was_blocked_last_night_why_and_when_it_ended(desk: Desk) -> None:
    desk.attack("203.0.113.9")
    began = desk.call("GET", "/v1/blocks").json["blocks"][0]
    desk.run(700)
    assert desk.call("GET", "/v1/blocks").json["total"] == 0
    desk.run(10 * 3600)
    end, start = events(desk, since=began["blocked_at"] - 60, until=began["blocked_at"] + 1800)
    assert (start["outcome"], start["network"], start["rule"]) == ("blocked", "203.0.113.9/32", "burst")
    assert (start["at"], start["until"]) == (began["blocked_at"], began["until"])
    assert start["detail"] == began["reason"]
    assert start["evidence"] | {"portrait": None} == began["evidence"]
    assert start["evidence"]["portrait"]["paths"] == {"/": start["evidence"]["portrait"]["requests"]}
    assert (end["outcome"], end["since"], end["until"]) == ("ended", start["at"], start["until"])
    assert end["detail"] == "after 10m"
    assert end["at"] - end["until"] < 120


def test_a_rule_that_only_counts_shows_whom_it_would_have_blocked(desk: Desk) -> None:
    edit = {"rule": "burst", "action": "count"}
    assert desk.call("POST", "/v1/rules/edit", edit, headers={"If-Match": '"1"'}).status == 200
    desk.run(30)
    desk.attack("203.0.113.9")
    (event,) = events(desk, outcome="counted")
    assert (event["network"], event["rule"], event["response"]) == ("203.0.113.9/32", "burst", "block")
    assert event["until"] is not None
    assert events(desk, outcome="blocked") == []


def test_a_block_by_hand_and_its_end_name_the_operator(desk: Desk) -> None:
    desk.call("POST", "/v1/blocks", {"network": "203.0.113.9", "block_for": "1h", "comment": "scraper"})
    desk.call("DELETE", "/v1/blocks", network="203.0.113.9", by="bob")
    end, start = events(desk)
    assert (start["outcome"], start["rule"], start["by"], start["detail"]) == (
        "blocked",
        "manual",
        "alice",
        "by alice: scraper",
    )
    assert (end["outcome"], end["by"], end["until"]) == ("ended", "bob", desk.now)
    assert end["detail"].endswith("lifted by bob")


def test_a_block_that_an_allowlist_entry_lifts_ended_by_its_author(desk: Desk) -> None:
    desk.attack("203.0.113.9")
    desk.call("PUT", "/v1/allowlist", {"network": "203.0.113.0/24"}, by="bob")
    end, _ = events(desk)
    assert (end["outcome"], end["by"]) == ("ended", "bob")


def test_a_call_that_changes_nothing_leaves_no_event(desk: Desk) -> None:
    desk.call("DELETE", "/v1/blocks", network="203.0.113.9")
    assert events(desk) == []


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        pytest.param({"rule": "login"}, {1, 4}, id="a rule"),
        pytest.param({"network": "198.51.0.2"}, {2}, id="an address"),
        pytest.param({"network": "198.51.0.4/30"}, {4, 5}, id="a network around it"),
        pytest.param({"outcome": "counted"}, {3}, id="an outcome"),
        pytest.param({"since": 1_789_999_904}, {4, 5}, id="since, inclusive"),
        pytest.param({"until": 1_789_999_902}, {0, 1}, id="until, exclusive"),
        pytest.param({"rule": "login", "since": 1_789_999_902}, {4}, id="two conditions"),
    ],
)
def test_events_are_filtered_by(desk: Desk, query: dict[str, Any], numbers: set[int]) -> None:
    for number in range(6):
        rule = "login" if number in (1, 4) else "burst"
        outcome = "counted" if number == 3 else "blocked"
        record(desk, 1_789_999_900 + number, numbered(number, rule=rule, outcome=outcome))
    assert {event["network"] for event in events(desk, **query)} == {numbered(n).network for n in numbers}


@pytest.mark.parametrize("limit", [1, 7, 200])
@pytest.mark.parametrize("query", [{}, {"rule": "login"}])
def test_pages_list_each_event_once_newest_first(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, limit: int, query: dict[str, Any]
) -> None:
    monkeypatch.setattr(history, "RECORDS_PER_READ", 5)
    monkeypatch.setattr(history, "MOST_EXAMINED", 13)
    rules = ["burst", "login"]
    for second in range(30):
        record(desk, desk.now - 300 + second, *(numbered(second * 4 + n, rule=rules[second % 2]) for n in range(4)))
    expected = [numbered(number).network for number in reversed(range(120)) if not query or number // 4 % 2]
    listed = events(desk, limit=limit, **query)
    assert [event["network"] for event in listed] == expected
    assert len({event["id"] for event in listed}) == len(expected)


def test_what_has_happened_between_two_pages_shifts_neither(desk: Desk) -> None:
    for second in range(4):
        record(desk, desk.now - 100 + second, numbered(second))
    first = desk.call("GET", "/v1/history", limit=2).json
    record(desk, desk.now, numbered(9))
    second = desk.call("GET", "/v1/history", limit=2, cursor=first["next"]).json
    assert [event["network"][-4] for event in first["events"] + second["events"]] == ["3", "2", "1", "0"]


def test_a_record_that_cannot_be_read_hides_no_other(desk: Desk) -> None:
    record(desk, desk.now - 2, numbered(1))
    State(desk.cloud.state).overwrite(Events(at_ms=1, events=()), id=f"{desk.now - 1}000-00")
    record(desk, desk.now - 1, numbered(2))
    assert len(events(desk)) == 2


def test_events_older_than_they_are_kept_are_not_listed_though_they_are_stored(new_desk: type[Desk]) -> None:
    desk = new_desk({"HISTORY_DAYS": "2"})
    record(desk, desk.now - 2 * DAY_S - 10, numbered(1))
    record(desk, desk.now - 2 * DAY_S + 10, numbered(2))
    page = desk.call("GET", "/v1/history").json
    assert [event["network"] for event in page["events"]] == ["198.51.0.2/32"]
    assert page["since"] == desk.now - 2 * DAY_S


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"network": "198.51.0.300"}, "network"),
        ({"since": "yesterday"}, "since"),
        ({"outcome": "refused"}, "outcome"),
        ({"cursor": "AAAA"}, "cursor"),
    ],
)
def test_what_cannot_be_understood_is_refused_by_name(desk: Desk, query: dict[str, Any], field: str) -> None:
    reply = desk.call("GET", "/v1/history", **query)
    assert (reply.status, reply.fields) == (422, [field])
