import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.allowance import Allowance
from chalicelib.core.latest_window import LatestWindow, busiest, latest_window
from chalicelib.core.rules import Rule
from tests.support.admin_api import Desk
from tests.support.records import waf_text


def test_top_names_the_busiest_clients_with_their_blocks(desk: Desk) -> None:
    desk.requests("203.0.113.9", 40)
    desk.requests("192.0.2.1", 4)
    desk.requests("192.0.2.2", 8)
    desk.run(4)
    (burst,) = desk.call("GET", "/v1/top", rule="burst", n=2).json["rules"]
    assert [(client["network"], client["count"]) for client in burst["clients"]] == [
        ("203.0.113.9/32", 40),
        ("192.0.2.2/32", 8),
    ]
    assert burst["clients"][0]["blocked_until"] > desk.now
    assert burst["clients"][1]["blocked_until"] is None
    assert burst["to_ms"] - burst["from_ms"] == 5000


def test_top_shows_what_the_requests_of_the_busiest_clients_looked_like(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.requests("203.0.113.9", 15, path="/login")
    desk.requests("192.0.2.2", 16, path="/search")
    desk.requests("192.0.2.1", 1)
    desk.run(4)
    monkeypatch.setattr("chalicelib.admin.busiest.MOST_PORTRAITS", 2)
    (burst,) = desk.call("GET", "/v1/top", rule="burst", n=3).json["rules"]
    lines = [client["portrait"] and list(client["portrait"]["lines"]) for client in burst["clients"]]
    assert lines == [["GET www.example.com/search 200"], ["GET www.example.com/login 200"], None]
    monkeypatch.setattr("chalicelib.admin.busiest.MOST_PORTRAITS", 1)
    (burst,) = desk.call("GET", "/v1/top", rule="burst", n=3).json["rules"]
    assert [client["portrait"] is not None for client in burst["clients"]] == [True, False, False]


def test_an_unknown_rule_is_not_found_and_the_known_ones_are_named(desk: Desk) -> None:
    reply = desk.call("GET", "/v1/top", rule="nope")
    assert reply.status == 404
    assert "burst, login" in reply.json["detail"]


def test_only_the_counts_of_cloudfronts_log_are_scaled_by_the_sample_rate(new_desk: type[Desk]) -> None:
    desk = new_desk({"SAMPLE_RATE": "25"})
    desk.requests("192.0.2.1", 4)
    for number in range(4):
        desk.cloud.put(waf_text(timestamp=desk.now * 1000, clientIp="192.0.2.1", requestId=f"id-{number}"))
    desk.run(3)
    busiest = desk.call("GET", "/v1/top", rule="burst").json["rules"]
    assert {each["source"]: each["clients"][0]["count"] for each in busiest} == {"cloudfront": 16, "waf": 4}
    # The limit of 20 is five logged requests.
    assert {each["source"]: each["action"] for each in busiest} == {"cloudfront": "count", "waf": "block"}
    client = desk.call("GET", "/v1/clients", address="192.0.2.1").json
    counts = {each["source"]: (each["count"], each["action"]) for each in client["counts"] if each["rule"] == "burst"}
    assert counts == {"cloudfront": (16, "count"), "waf": (4, "block")}


SLOTS = st.dictionaries(st.integers(0, 60), st.integers(1, 9), min_size=1, max_size=12)


@given(st.dictionaries(st.binary(min_size=4, max_size=4), SLOTS, max_size=8), st.integers(0, 60), st.integers(0, 70))
def test_the_busiest_clients_match_a_slow_count(clients: dict[bytes, dict[int, int]], newest: int, now: int) -> None:
    rule = Rule(name="r", limit=1, window_s=10, resolution=10)
    window = latest_window(rule, newest * 1000 + 1, now * 1000 + 999, lag_ms=20_000)
    last = min(max(newest, now - 20), now)
    inside = range(last - 9, last + 1)
    assert window == LatestWindow(inside[0], inside[-1] + 1)
    slow = {key: sum(slots.get(slot, 0) for slot in inside) for key, slots in clients.items()}
    fast = busiest(clients.items(), window, 3, Allowance(10, 1))
    assert fast == [(key, slow[key]) for key, _ in fast]
    assert [count for _, count in fast] == sorted((c for c in slow.values() if c), reverse=True)[:3]
