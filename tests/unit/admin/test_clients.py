import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.latest_window import LatestWindow, busiest, latest_window
from chalicelib.core.rules import Rule
from chalicelib.ports import Unavailable


def test_a_blocked_client_is_explained_in_figures_and_in_words(desk):
    desk.attack("203.0.113.9")
    client = desk.call("GET", "/v1/clients", address="203.0.113.9").json
    (block,) = client["blocks"]
    assert client["blocked"] is True
    assert (block["rule"], block["evidence"]["limit"], block["offence"]) == ("burst", 20, 1)
    assert block["evidence"]["count"] > 20
    assert client["explain"][0].startswith("203.0.113.9/32 is blocked for another ")
    assert f"burst: {block['evidence']['count']} requests within 5s, limit 20" in client["explain"][0]
    assert [past["rule"] for past in client["history"]] == ["burst"]


def test_the_current_count_is_exact_and_shown_against_every_limit(desk):
    desk.requests("203.0.113.9", 12)
    desk.requests("203.0.113.9", 3, method="POST", path="/login")
    desk.run(3)
    client = desk.call("GET", "/v1/clients", address="203.0.113.9").json
    counts = {count["rule"]: (count["count"], count["limit"]) for count in client["counts"]}
    assert counts == {"burst": (15, 20), "login": (3, 5)}
    assert client["blocked"] is False
    assert (
        "Rule login (cloudfront log): 3 requests of 203.0.113.9/32 in the latest 10s, within the limit of 5."
        in (client["explain"])
    )


def test_an_ipv6_address_is_looked_up_by_the_network_that_counts_as_one_client(desk):
    desk.attack("2001:db8::77")
    client = desk.call("GET", "/v1/clients", address="2001:db8::1234").json
    assert client["blocked"] is True
    assert client["blocks"][0]["network"] == "2001:db8::/64"
    assert {count["network"] for count in client["counts"]} == {"2001:db8::/64"}
    assert "by a block of 2001:db8::/64" in client["explain"][0]


def test_allowlist_pause_and_breaker_are_part_of_the_explanation(desk):
    desk.attack("203.0.113.9")
    desk.call("PUT", "/v1/allowlist", {"network": "192.0.2.0/24", "comment": "office", "expires_at": desk.now + 3600})
    desk.put_block("192.0.2.9/32")
    client = desk.call("GET", "/v1/clients", address="192.0.2.9").json
    assert client["blocked"] is False
    assert client["allowlist"][0]["comment"] == "office"
    assert any("withheld" in sentence for sentence in client["explain"])
    assert any("192.0.2.0/24 is on the allowlist" in sentence for sentence in client["explain"])
    desk.call("POST", "/v1/pause", {"release": True})
    client = desk.call("GET", "/v1/clients", address="203.0.113.9").json
    assert client["blocked"] is False
    assert "Enforcement is paused and the IP sets are emptied, so no client is blocked." in client["explain"]


def test_a_wide_block_that_is_withheld_blocks_nobody_in_it(desk):
    desk.call("PUT", "/v1/allowlist", {"network": "203.0.113.7"})
    desk.call("POST", "/v1/blocks", {"network": "203.0.113.0/24", "block_for": "1h", "force": True})
    desk.run(2)
    client = desk.call("GET", "/v1/clients", address="203.0.113.9").json
    assert (desk.published(), client["blocked"], client["allowlist"]) == (set(), False, [])
    assert any("withheld" in sentence for sentence in client["explain"])


def test_a_stranger_is_explained_too(desk):
    client = desk.call("GET", "/v1/clients", address="192.0.2.200").json
    assert client["explain"] == ["192.0.2.200/32 is not blocked."]


def test_top_names_the_busiest_clients_with_their_blocks(desk):
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


def test_an_unknown_rule_is_not_found_and_the_known_ones_are_named(desk):
    reply = desk.call("GET", "/v1/top", rule="nope")
    assert reply.status == 404
    assert "burst, login" in reply.json["detail"]


def test_counts_are_scaled_where_the_log_is_sampled(new_desk):
    desk = new_desk({"SAMPLE_RATE": "50"})
    desk.requests("192.0.2.1", 4)
    desk.run(3)
    (burst,) = desk.call("GET", "/v1/top", rule="burst").json["rules"]
    assert burst["clients"][0]["count"] == 8


def test_what_is_counted_after_a_quiet_hour_is_seen_again(desk):
    desk.requests("192.0.2.1", 4)
    desk.run(3)
    assert desk.call("GET", "/v1/top", rule="burst").json["rules"][0]["clients"]
    desk.run(4000)
    assert all(not rule["clients"] for rule in desk.call("GET", "/v1/top").json["rules"])
    desk.requests("192.0.2.2", 5)
    desk.run(3)
    assert desk.call("GET", "/v1/top", rule="burst").json["rules"][0]["clients"][0]["count"] == 5


def test_looking_never_writes_to_the_tally_logs(desk):
    desk.requests("192.0.2.1", 4)
    desk.run(3)
    registry, items = desk.cloud.tally_logs.read([])
    assert registry
    for _ in range(2):
        # Past the time after which a container that counts would take the idle logs off the registry.
        desk.clock.wait_until(desk.clock.now() + 4 * 3600)
        desk.call("GET", "/v1/top")
    assert desk.cloud.tally_logs.read([]) == (registry, items)


def test_series_add_up_to_what_came_in(desk):
    for _ in range(6):
        desk.requests("192.0.2.1", 10)
        desk.run(10)
    desk.attack("203.0.113.9")
    series = desk.call("GET", "/v1/series", span=120, step=10).json
    points = series["points"]
    assert sum(point["requests"] for point in points) == pytest.approx(100, abs=3)
    assert sum(point["detections"] for point in points) == 1
    assert sum(point["blocks"] for point in points) == 1
    assert [point["at"] for point in points] == list(range(points[0]["at"], desk.now + 1, 10))


def test_status_tells_how_things_stand(desk):
    desk.attack("203.0.113.9")
    desk.put_block("2001:db8::/64", rule="manual")
    desk.call("PUT", "/v1/allowlist", {"network": "192.0.2.0/24"})
    desk.run(60)
    desk.requests("192.0.2.1", 6)
    desk.run(3)
    status = desk.call("GET", "/v1/status").json
    assert status["blocks"] == {
        "active": 2,
        "ipv4": 1,
        "ipv6": 1,
        "withheld": 0,
        "overflow": 0,
        "by_rule": [{"rule": "burst", "blocks": 1}, {"rule": "manual", "blocks": 1}],
    }
    assert [(s["family"], s["networks"], s["capacity"]) for s in status["ip_sets"]] == [(4, 1, 10000), (6, 1, 10000)]
    assert status["allowlist"] == 1
    assert (status["rules"]["version"], status["rules"]["rules"], status["rules"]["problem"]) == (1, 2, None)
    assert status["sweep"]["age_s"] <= 60
    assert status["ingest"]["requests_per_second"] == pytest.approx(0.1)
    assert 0 <= status["ingest"]["lag_ms"] < 3000


def test_status_and_clients_are_told_when_the_tally_logs_are_out_of_reach(desk, monkeypatch):
    def fail(*_):
        raise Unavailable("read the tally logs: timed out")

    monkeypatch.setattr(desk.cloud.tally_logs, "read", fail)
    reply = desk.call("GET", "/v1/status")
    assert reply.status == 200
    assert "timed out" in reply.json["ingest"]["problem"]
    assert desk.call("GET", "/v1/top").status == 503
    client = desk.call("GET", "/v1/clients", address="192.0.2.1")
    assert (client.status, client.json["counts"]) == (200, [])
    assert "timed out" in client.json["explain"][-1]


SLOTS = st.dictionaries(st.integers(0, 60), st.integers(1, 9), min_size=1, max_size=12)


@given(st.dictionaries(st.binary(min_size=4, max_size=4), SLOTS, max_size=8), st.integers(0, 60), st.integers(0, 70))
def test_the_busiest_clients_are_those_a_slow_count_finds(clients, newest, now):
    rule = Rule(name="r", limit=1, window_s=10, resolution=10)
    window = latest_window(rule, newest * 1000 + 1, now * 1000 + 999, lag_ms=20_000)
    last = min(max(newest, now - 20), now)
    inside = range(last - 9, last + 1)
    assert window == LatestWindow(inside[0], inside[-1] + 1)
    slow = {key: sum(slots.get(slot, 0) for slot in inside) for key, slots in clients.items()}
    found = busiest(clients.items(), window, 3)
    assert found == [(key, slow[key]) for key, _ in found]
    assert [count for _, count in found] == sorted((c for c in slow.values() if c), reverse=True)[:3]
