from tests.support.admin_api import Desk


def test_a_blocked_client_is_explained_in_figures_and_in_words(desk: Desk) -> None:
    desk.attack("203.0.113.9")
    client = desk.call("GET", "/v1/clients", address="203.0.113.9").json
    (block,) = client["blocks"]
    assert client["blocked"] is True
    assert (block["rule"], block["evidence"]["limit"], block["offence"]) == ("burst", 20, 1)
    assert block["evidence"]["count"] > 20
    assert client["explain"][0].startswith("203.0.113.9/32 is blocked for another ")
    assert f"burst: {block['evidence']['count']} requests within 5s, limit 20" in client["explain"][0]
    assert [past["rule"] for past in client["history"]] == ["burst"]


def test_a_client_is_shown_with_what_its_requests_looked_like(desk: Desk) -> None:
    desk.requests("203.0.113.9", 30, method="POST", path="/login?user=a", status=401)
    desk.requests("203.0.113.9", 10, path="/\x1b[2J")
    desk.run(5)
    client = desk.call("GET", "/v1/clients", address="203.0.113.9").json
    portraits = {past["rule"]: past["evidence"]["portrait"] for past in client["history"]}
    assert portraits.keys() == {"burst", "login"}
    portrait = portraits["burst"]
    assert next(iter(portrait["lines"])) == "POST www.example.com/login 401"
    assert portrait["paths"].keys() == {"/login", "/\\x1b[2J"}
    assert portrait["statuses"].keys() == {"401", "200"}
    assert (portrait["hosts"], portrait["user_agents"]) == (
        {"www.example.com": portrait["requests"]},
        {"agent": portrait["requests"]},
    )
    looked_like = f"{portrait['lines']['POST www.example.com/login 401']} of {portrait['requests']} requests looked at"
    assert [sentence.partition(",")[0] for sentence in client["explain"] if looked_like in sentence] == [
        "In the last minutes",
        f"Shortly before its offence against {client['history'][0]['rule']}",
    ]
    assert client["portrait"] == portrait
    assert [block["evidence"]["portrait"] for block in client["blocks"]] == [None]
    events = desk.call("GET", "/v1/history").json["events"]
    assert {event["rule"]: event["evidence"]["portrait"] for event in events} == portraits


def test_a_busy_client_without_an_offence_is_shown_with_what_it_requests_now(desk: Desk) -> None:
    desk.requests("203.0.113.9", 12, path="/a")
    desk.run(5)
    client = desk.call("GET", "/v1/clients", address="203.0.113.9").json
    assert client["history"] == []
    assert client["portrait"]["lines"] == {"GET www.example.com/a 200": client["portrait"]["requests"]}
    assert desk.call("GET", "/v1/clients", address="203.0.113.8").json["portrait"] is None
    desk.run(400)
    assert desk.call("GET", "/v1/clients", address="203.0.113.9").json["portrait"] is None


def test_no_portrait_is_drawn_if_the_setting_says_so() -> None:
    desk = Desk({"PORTRAITS": "off"})
    desk.attack("203.0.113.9")
    client = desk.call("GET", "/v1/clients", address="203.0.113.9").json
    assert [client["portrait"], *(past["evidence"]["portrait"] for past in client["history"])] == [None, None]
    assert not any("looked at" in sentence for sentence in client["explain"])


def test_the_current_count_is_exact_and_compared_with_every_limit(desk: Desk) -> None:
    desk.requests("203.0.113.9", 12)
    desk.requests("203.0.113.9", 3, method="POST", path="/login")
    desk.run(3)
    client = desk.call("GET", "/v1/clients", address="203.0.113.9").json
    counts = {count["rule"]: (count["count"], count["limit"]) for count in client["counts"]}
    assert counts == {"burst": (15, 20), "login": (3, 5)}
    assert client["blocked"] is False
    assert (
        "Rule login (cloudfront log): 3 requests from 203.0.113.9/32 in the latest 10s, within the limit of 5."
        in (client["explain"])
    )


def test_an_ipv6_address_is_looked_up_by_the_network_that_counts_as_one_client(desk: Desk) -> None:
    desk.attack("2001:db8::77")
    client = desk.call("GET", "/v1/clients", address="2001:db8::1234").json
    assert client["blocked"] is True
    assert client["blocks"][0]["network"] == "2001:db8::/64"
    assert {count["network"] for count in client["counts"]} == {"2001:db8::/64"}
    assert "by a block of 2001:db8::/64" in client["explain"][0]


def test_allowlist_pause_and_breaker_are_part_of_the_explanation(desk: Desk) -> None:
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


def test_a_wide_block_blocks_every_client_but_the_allowlisted_one(desk: Desk) -> None:
    desk.call("PUT", "/v1/allowlist", {"network": "203.0.113.7"})
    desk.call("POST", "/v1/blocks", {"network": "203.0.113.0/24", "block_for": "1h", "force": True})
    desk.run(2)
    clients = [desk.call("GET", "/v1/clients", address=f"203.0.113.{last}").json for last in (7, 9)]
    assert [client["blocked"] for client in clients] == [False, True]
    allowed, other = (client["explain"] for client in clients)
    assert allowed[0].startswith("203.0.113.7/32 would be blocked by a block of 203.0.113.0/24")
    assert other[0].startswith("203.0.113.9/32 is blocked by a block of 203.0.113.0/24")
    assert "The allowlisted parts of 203.0.113.0/24 are carved out of that block." in allowed


def test_an_unknown_client_is_explained_too(desk: Desk) -> None:
    client = desk.call("GET", "/v1/clients", address="192.0.2.200").json
    assert client["explain"] == ["192.0.2.200/32 is not blocked."]


def test_a_network_names_the_blocks_and_the_busiest_clients_in_it(desk: Desk) -> None:
    desk.attack("203.0.113.9")
    desk.put_block("203.0.113.128/25", rule="manual")
    desk.put_block("198.51.100.1/32")
    desk.requests("203.0.113.7", 3)
    desk.run(3)
    report = desk.call("GET", "/v1/clients", address="203.0.113.0/24").json
    assert (report["blocked"], report["blocks"], report["blocks_inside"]) == (False, [], 2)
    assert {block["network"] for block in report["inside"]} == {"203.0.113.9/32", "203.0.113.128/25"}
    assert report["explain"][0].startswith("2 networks in it are blocked: 203.0.113.")
    counts = {count["network"]: count["count"] for count in report["counts"] if count["rule"] == "burst"}
    assert counts["203.0.113.7/32"] == 3
    assert not any("is not blocked" in sentence for sentence in report["explain"])
    itself = desk.call("GET", "/v1/clients", address="203.0.113.128/25").json
    assert (itself["blocked"], itself["blocks_inside"]) == (True, 0)


def test_a_network_is_allowlisted_only_if_all_of_it_is(desk: Desk) -> None:
    desk.call("PUT", "/v1/allowlist", {"network": "203.0.113.7"})
    reports = [desk.call("GET", "/v1/clients", address=name).json for name in ("203.0.113.0/24", "203.0.113.7")]
    assert [report["allowlisted"] for report in reports] == [False, True]
    assert [[entry["network"] for entry in report["allowlist"]] for report in reports] == [["203.0.113.7/32"]] * 2
