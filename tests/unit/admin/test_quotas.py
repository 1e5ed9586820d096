"""A quota from its rule to the edge, and what the API says of it."""

from chalicelib.core.rules_diff import counted_anew
from chalicelib.core.rules_toml import parse_rules
from tests.support.admin_api import Desk

BURST = '[[rule]]\nname = "burst"\nlimit = 50\nwindow = "5s"\n'
DAILY = '[[rule]]\nname = "daily"\nlimit = 20\nwindow = "1d"\n'


def put(desk: Desk, client: str, requests: int) -> None:
    now = desk.cloud.now()
    for number in range(requests):
        line = f"{now - 60 + number:.3f}\t{client}\t200\tGET\twww.example.com\t/\t{client}-{now}-{number}==\tagent\t-\n"
        desk.cloud.put(line.encode())


def activate(desk: Desk, text: str) -> None:
    assert desk.call("PUT", "/v1/rules", {"text": text}, headers={"If-Match": '"1"'}).status == 200
    desk.run(120)


def test_a_client_over_its_quota_is_refused_at_the_edge_with_the_next_sweep(desk: Desk) -> None:
    activate(desk, BURST + DAILY)
    put(desk, "203.0.113.1", 20)
    put(desk, "203.0.113.2", 15)
    desk.run(3700)
    assert set().union(*desk.cloud.waf.published().values()) == set()
    put(desk, "203.0.113.2", 6)
    desk.run(130)
    assert set().union(*desk.cloud.waf.published().values()) == {"203.0.113.2/32"}
    (block,) = desk.call("GET", "/v1/blocks").json["blocks"]
    assert block["reason"] == "daily: 21 requests within 1d, limit 20"
    assert block["until"] - block["blocked_at"] == 86400


def test_a_plan_says_that_a_new_quota_counts_from_now_on(desk: Desk) -> None:
    plan = desk.call("POST", "/v1/rules/plan", {"text": BURST + DAILY}).json
    assert [note for note in plan["notes"] if "daily" in note] == [
        (
            "Rule daily starts counting from zero, because no quota in force counts its requests: for up to 1d after "
            "its activation, it does not see what came before."
        ),
        (
            "Rule daily is a quota, whose counts are not live, so nothing is known of what it would do now. 'sluice "
            "replay' computes it from logs."
        ),
    ]
    assert [each["rule"] for each in plan["now"]] == []


def test_a_quota_with_another_window_has_its_counts_at_once() -> None:
    assert list(counted_anew(parse_rules(DAILY), parse_rules(DAILY.replace("1d", "7d")))) == []


def test_live_counts_are_of_windows_and_say_so(desk: Desk) -> None:
    activate(desk, DAILY)
    put(desk, "203.0.113.1", 5)
    desk.run(70)
    answer = desk.call("GET", "/v1/top", rule="daily")
    assert answer.status == 404
    assert "Rule 'daily' is a quota. Only the counts of rules with a window up to 1h are live." in answer.text
    assert desk.call("GET", "/v1/top").json["rules"] == []
    client = desk.call("GET", "/v1/clients", address="203.0.113.1").json
    assert "Its current requests are unknown: no rule but quotas is in force." in client["explain"]
