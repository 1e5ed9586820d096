"""Which rules are stopped, and their reset by an operator."""

from typing import Any

import pytest

from chalicelib.core.state.breakers import Breaker, RuleBreaker
from chalicelib.pipeline.stored import State
from tests.support.admin_api import Desk

CLIENTS = ("203.0.113.9/32", "203.0.113.10/32")


@pytest.fixture
def stopped(desk: Desk) -> Desk:
    """A desk at which the rule ``burst`` was stopped a minute ago, and ``gone``, which has been removed, before."""
    for rule, at, would_hit in (("burst", desk.now - 60, 812), ("gone", desk.now - 90, 50)):
        breaker = RuleBreaker(
            rule=rule, limit=20, window_s=5, stopped_at=at, would_hit=would_hit, known=2000, clients=CLIENTS
        )
        State(desk.cloud.state).overwrite(breaker)
    return desk


def breaker(desk: Desk) -> Any:
    return desk.call("GET", "/v1/status").json["breaker"]


def test_the_status_names_the_stopped_rules_with_those_they_would_have_hit(stopped: Desk) -> None:
    at = stopped.now - 60
    shown = breaker(stopped)
    assert shown == {
        "open": True,
        "at": at,
        "would_block": 862,
        "ignore_until": 0,
        "by": "",
        "stopped": [
            {"rule": "burst", "stopped_at": at, "would_hit": 812, "known": 2000, "clients": list(CLIENTS)},
            {"rule": "gone", "stopped_at": at - 30, "would_hit": 50, "known": 2000, "clients": list(CLIENTS)},
        ],
    }


def test_without_a_stopped_rule_the_breaker_is_closed(desk: Desk) -> None:
    assert breaker(desk) == {"open": False, "at": 0, "would_block": 0, "ignore_until": 0, "by": "", "stopped": []}


def test_a_breaker_that_an_earlier_version_opened_stops_no_rule(desk: Desk) -> None:
    State(desk.cloud.state).overwrite(Breaker(open=True, at=desk.now - 60, would_block=2000))
    assert breaker(desk)["open"] is False


def test_a_reset_resumes_all_rules(stopped: Desk) -> None:
    reply = stopped.call("POST", "/v1/breaker/reset", {"quiet_for": "1h"})
    assert (
        reply.json["breaker"]
        == breaker(stopped)
        == {
            "open": False,
            "at": stopped.now,
            "would_block": 862,
            "ignore_until": stopped.now + 3600,
            "by": "alice",
            "stopped": [],
        }
    )
    (record,) = stopped.call("GET", "/v1/audit").json["records"]
    assert (record["action"], record["target"]) == ("breaker.reset", "breaker")


@pytest.mark.parametrize(("rule", "left"), [("burst", "gone"), ("gone", "burst")])
def test_a_reset_of_one_rule_leaves_the_others_stopped(stopped: Desk, rule: str, left: str) -> None:
    reply = stopped.call("POST", "/v1/breaker/reset", {"rule": rule})
    assert "stays closed for 10m" in reply.json["detail"]
    assert [each["rule"] for each in reply.json["breaker"]["stopped"]] == [left]
    assert [each["rule"] for each in breaker(stopped)["stopped"]] == [left]
    (record,) = stopped.call("GET", "/v1/audit").json["records"]
    assert (record["action"], record["target"]) == ("breaker.reset", rule)


def test_a_rule_that_does_not_exist_cannot_be_reset(desk: Desk) -> None:
    reply = desk.call("POST", "/v1/breaker/reset", {"rule": "brust"})
    assert reply.status == 404
    assert "There is no rule 'brust'" in reply.json["detail"]
    assert desk.call("POST", "/v1/breaker/reset", {"rule": "burst"}).status == 200, "though it is not stopped"


def test_a_breaker_cannot_be_silenced_for_more_than_a_day(desk: Desk) -> None:
    reply = desk.call("POST", "/v1/breaker/reset", {"quiet_for": "25h"})
    assert (reply.status, reply.fields) == (422, ["quiet_for"])


def test_a_reset_is_undone_by_a_pause(stopped: Desk) -> None:
    reset = stopped.call("POST", "/v1/breaker/reset").json
    stopped.undo(reset["undo"])
    stopped.attack("203.0.113.9")
    assert stopped.published() == set()


def test_the_explanation_of_a_client_names_the_stopped_rules(stopped: Desk) -> None:
    explained = stopped.call("GET", "/v1/clients", address="203.0.113.9").json["explain"]
    assert "Rule burst is stopped by its circuit breaker: it blocks no new client." in explained
