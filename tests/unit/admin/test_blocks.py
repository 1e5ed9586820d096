from collections.abc import Mapping
from typing import Any

import pytest

from chalicelib.core.responses import Response
from chalicelib.core.state.detections import Evidence
from tests.support.admin_api import Desk, Reply


def networks(reply: Reply) -> list[str]:
    return [block["network"] for block in reply.json["blocks"]]


def test_a_manual_block_reaches_the_ip_set_and_names_its_author(desk: Desk) -> None:
    reply = desk.call("POST", "/v1/blocks", {"network": "203.0.113.9", "block_for": "1h", "comment": "scraper"})
    desk.run(2)
    assert reply.status == 201
    (made,) = reply.json["blocks"]
    assert (made["network"], made["rule"], made["by"], made["until"]) == (
        "203.0.113.9/32",
        "manual",
        "alice",
        desk.now - 2 + 3600,
    )
    assert made["reason"] == "blocked by alice: scraper"
    assert desk.published() == {"203.0.113.9/32"}


def test_an_unblock_reaches_the_ip_set_and_earlier_requests_do_not_count_again(
    desk: Desk,
) -> None:
    desk.attack("203.0.113.9")
    assert desk.published() == {"203.0.113.9/32"}
    reply = desk.call("DELETE", "/v1/blocks", network="203.0.113.9")
    desk.run(2)
    assert reply.json["changed"] is True
    assert desk.published() == set()
    desk.requests("203.0.113.9", 15)
    desk.run(5)
    assert desk.published() == set()


def test_a_forgotten_offence_neither_protects_the_client_nor_lengthens_its_next_block(desk: Desk) -> None:
    desk.attack("203.0.113.9")
    desk.call("DELETE", "/v1/blocks", network="203.0.113.9", forget="true")
    desk.run(10)
    desk.attack("203.0.113.9")
    (block,) = desk.call("GET", "/v1/blocks").json["blocks"]
    assert block["offence"] == 1


def test_an_unblocked_client_that_offends_again_is_blocked_again(desk: Desk) -> None:
    desk.attack("203.0.113.9")
    desk.call("DELETE", "/v1/blocks", network="203.0.113.9")
    desk.run(10)
    assert networks(desk.call("GET", "/v1/blocks")) == []
    desk.attack("203.0.113.9")
    (block,) = desk.call("GET", "/v1/blocks").json["blocks"]
    assert block["offence"] == 2


def test_an_unblock_is_undone_by_its_undo(desk: Desk) -> None:
    desk.attack("203.0.113.9")
    before = desk.call("GET", "/v1/blocks").json["blocks"][0]
    desk.run(60)
    lifted = desk.call("DELETE", "/v1/blocks", network="203.0.113.9/32").json
    assert desk.undo(lifted["undo"]).status == 201
    (again,) = desk.call("GET", "/v1/blocks", rule="burst").json["blocks"]
    for kept in ("network", "rule", "offence", "evidence", "until", "response", "reason"):
        assert again[kept] == before[kept], kept
    (event, *_) = desk.call("GET", "/v1/history").json["events"]
    assert (event["outcome"], event["rule"], event["by"], event["evidence"]) == ("blocked", "burst", "alice", None)


def test_undoing_an_unblock_refuses_no_longer_than_the_lifted_block_did(desk: Desk) -> None:
    desk.put_block("203.0.113.9/32", until=desk.now + 600, softer={Response.CAPTCHA: desk.now + 7 * 86400})
    lifted = desk.call("DELETE", "/v1/blocks", network="203.0.113.9/32").json
    assert lifted["undo"]["body"]["blocks"][0]["block_for"] == "10m"
    (again,) = desk.undo(lifted["undo"]).json["blocks"]
    assert (again["response"], again["until"] - again["blocked_at"]) == ("block", 600)


def test_a_block_whose_offence_was_forgotten_is_made_again_by_hand(desk: Desk) -> None:
    desk.attack("203.0.113.9")
    undo = desk.call("DELETE", "/v1/blocks", network="203.0.113.9/32", forget="true").json["undo"]
    assert desk.undo(undo).status == 201
    [after] = desk.call("GET", "/v1/blocks").json["blocks"]
    assert (after["rule"], after["comment"][:12]) == ("manual", "again: burst"[:12])


def test_unblocking_an_address_inside_a_blocked_network_names_that_network(desk: Desk) -> None:
    desk.put_block("2001:db8::/64")
    reply = desk.call("DELETE", "/v1/blocks", network="2001:db8::1")
    assert (reply.status, reply.json["changed"]) == (200, False)
    assert "2001:db8::/64" in reply.json["detail"]


@pytest.mark.parametrize(
    ("network", "accepted"),
    [
        pytest.param("203.0.113.0/24", "203.0.113.7/32 (uptime probe) on the allowlist", id="overlaps the allowlist"),
        pytest.param("198.51.100.0/24", "198.51.100.4, the address you call from", id="contains the caller"),
        pytest.param("10.0.0.0/8", "wider than /16", id="is wide"),
    ],
)
def test_a_dangerous_block_is_rejected_with_the_reason_unless_forced(desk: Desk, network: str, accepted: str) -> None:
    desk.call("PUT", "/v1/allowlist", {"network": "203.0.113.7", "comment": "uptime probe"})
    wish = {"network": network, "block_for": "1h"}
    refused = desk.call("POST", "/v1/blocks", wish)
    assert (refused.status, refused.json["type"]) == (409, "urn:sluice:problem:force-needed")
    assert accepted in refused.json["errors"][0]["accepted"]
    assert networks(desk.call("GET", "/v1/blocks")) == []
    assert desk.call("POST", "/v1/blocks", wish | {"force": True}).status == 201


def test_a_forced_block_never_publishes_an_allowlisted_network(desk: Desk) -> None:
    desk.call("PUT", "/v1/allowlist", {"network": "203.0.113.7"})
    reply = desk.call("POST", "/v1/blocks", {"network": "203.0.113.6/31", "block_for": "1h", "force": True})
    whole = desk.call("POST", "/v1/blocks", {"network": "203.0.113.7", "block_for": "1h", "force": True})
    desk.run(2)
    assert [(each.json["blocks"][0]["withheld"], each.json["blocks"][0]["carved"]) for each in (reply, whole)] == [
        (False, True),
        (True, False),
    ]
    assert "the allowlisted parts of 203.0.113.6/31 are not blocked" in reply.json["detail"]
    assert desk.published() == {"203.0.113.6/32"}


def test_a_block_of_all_addresses_is_rejected_even_with_force(desk: Desk) -> None:
    for network in ("0.0.0.0/0", "::/0"):
        reply = desk.call("POST", "/v1/blocks", {"network": network, "block_for": "1h", "force": True})
        assert (reply.status, reply.fields) == (422, ["network"])


@pytest.mark.parametrize("length", ["0s", "367d", "999999999d", "1.5h", "1 h", "h", "\uff11h", "-1h"])
def test_an_invalid_duration_is_rejected(desk: Desk, length: str) -> None:
    reply = desk.call("POST", "/v1/blocks", {"network": "203.0.113.9", "block_for": length})
    assert (reply.status, reply.fields) == (422, ["block_for"])


def test_a_bulk_block_makes_all_blocks_or_none_and_names_every_fault(desk: Desk) -> None:
    wishes = [{"network": f"203.0.113.{last}", "block_for": "1h"} for last in range(40)]
    bad = [*wishes[:5], {"network": "203.0.113.1/24", "block_for": "1h"}, {"network": "203.0.113.0", "block_for": "1x"}]
    refused = desk.call("POST", "/v1/blocks", {"blocks": bad})
    assert refused.status == 422
    assert refused.fields == ["blocks[6].block_for"]
    refused = desk.call("POST", "/v1/blocks", {"blocks": [*bad[:6], wishes[0]]})
    assert refused.fields == ["blocks[5].network", "blocks[6].network"]
    assert networks(desk.call("GET", "/v1/blocks")) == []
    made = desk.call("POST", "/v1/blocks", {"blocks": wishes}).json
    assert len(made["blocks"]) == 40
    lifted = desk.undo(made["undo"]).json
    assert len(lifted["lifted"]) == 40
    assert networks(desk.call("GET", "/v1/blocks")) == []
    assert len(desk.undo(lifted["undo"]).json["blocks"]) == 40


def test_bulk_calls_are_bounded(desk: Desk) -> None:
    wishes = [{"network": f"203.0.113.{last}", "block_for": "1h"} for last in range(41)]
    assert desk.call("POST", "/v1/blocks", {"blocks": wishes}).status == 422
    assert desk.call("POST", "/v1/blocks", {"blocks": []}).status == 422
    assert desk.call("DELETE", "/v1/blocks", network=[wish["network"] for wish in wishes]).status == 422
    assert desk.call("DELETE", "/v1/blocks").status == 422


def test_undoing_a_replacement_restores_the_replaced_block(desk: Desk) -> None:
    desk.put_block("203.0.113.9/32", until=desk.now + 100)
    reply = desk.call("POST", "/v1/blocks", {"network": "203.0.113.9", "block_for": "1d"})
    assert reply.json["blocks"][0]["until"] == desk.now + 86400
    desk.undo(reply.json["undo"])
    assert desk.call("GET", "/v1/blocks").json["blocks"][0]["until"] == desk.now + 100


def test_replaced_and_new_blocks_are_undone_in_one_call(desk: Desk) -> None:
    desk.put_block("203.0.113.9/32", until=desk.now + 100)
    wishes = [{"network": f"203.0.113.{last}", "block_for": "1d"} for last in (9, 20)]
    made = desk.call("POST", "/v1/blocks", {"blocks": wishes}).json
    desk.undo(made["undo"])
    desk.run(2)
    assert [(b["network"], b["until"]) for b in desk.call("GET", "/v1/blocks").json["blocks"]] == [
        ("203.0.113.9/32", desk.now - 2 + 100)
    ]


def test_a_call_without_a_source_address_may_block(desk: Desk) -> None:
    wish = {"network": "203.0.113.9", "block_for": "1h"}
    assert desk.call("POST", "/v1/blocks", wish, origin="test-invoke-source-ip").status == 201


@pytest.fixture
def several(desk: Desk) -> Desk:
    evidence: dict[str, Any] = {
        "limit": 20,
        "window_s": 5,
        "first_ms": 0,
        "last_ms": 0,
        "detection": "d",
        "arrived_ms": 0,
    }
    for index, (network, source) in enumerate(
        [
            ("192.0.2.1/32", "cloudfront"),
            ("192.0.2.0/28", "waf"),
            ("2001:db8::/64", "waf"),
            ("10.0.0.1/32", "cloudfront"),
        ]
    ):
        seen = Evidence(rule="burst", count=50 - index, source=source, **evidence)
        desk.put_block(network, blocked_at=desk.now - index, until=desk.now + 100 + index, evidence=seen)
    desk.put_block("198.18.0.1/32", rule="manual", by="bob", comment="Naughty <b>client</b>", blocked_at=desk.now - 9)
    desk.put_block("198.18.0.2/32", until=desk.now)
    return desk


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param({}, ["192.0.2.1/32", "192.0.2.0/28", "2001:db8::/64", "10.0.0.1/32", "198.18.0.1/32"], id="all"),
        pytest.param({"rule": "manual"}, ["198.18.0.1/32"], id="by rule"),
        pytest.param({"source": "waf"}, ["192.0.2.0/28", "2001:db8::/64"], id="by log"),
        pytest.param({"text": "naughty"}, ["198.18.0.1/32"], id="by comment, in any case"),
        pytest.param({"text": "BOB"}, ["198.18.0.1/32"], id="by author"),
        pytest.param({"text": "192.0.2.1"}, ["192.0.2.1/32", "192.0.2.0/28"], id="by an address that it covers"),
        pytest.param({"text": "2001:db8::5"}, ["2001:db8::/64"], id="by an IPv6 address that it covers"),
        pytest.param(
            {"sort": "network"},
            ["10.0.0.1/32", "192.0.2.0/28", "192.0.2.1/32", "198.18.0.1/32", "2001:db8::/64"],
            id="by network, IPv4 first",
        ),
        pytest.param({"sort": "-count", "source": "cloudfront"}, ["192.0.2.1/32", "10.0.0.1/32"], id="by count"),
        pytest.param({"sort": "until", "source": "waf"}, ["192.0.2.0/28", "2001:db8::/64"], id="by end"),
    ],
)
def test_blocks_are_filtered_and_sorted_without_expired_ones(
    several: Desk, query: Mapping[str, Any], expected: list[str]
) -> None:
    reply = several.call("GET", "/v1/blocks", **query)
    assert networks(reply) == expected
    assert reply.json["total"] == len(expected)
    paged: list[str] = []
    cursor: dict[str, Any] = {}
    while True:
        page = several.call("GET", "/v1/blocks", **query, **cursor, limit=1)
        paged += networks(page)
        if page.json["next"] is None:
            break
        cursor = {"cursor": page.json["next"]}
    assert paged == expected


def test_a_cursor_of_another_list_is_rejected(several: Desk) -> None:
    cursor = several.call("GET", "/v1/blocks", limit=1).json["next"]
    assert several.call("GET", "/v1/audit", cursor=cursor).status == 422
    for bad in ("AAAA", "e30", "WyIxIiwi", "bnVsbA", "WyJhIiwiYiJd"):
        assert several.call("GET", "/v1/blocks", cursor=bad).fields == ["cursor"]


def test_a_response_without_ip_sets_is_refused_with_how_to_get_them(desk: Desk) -> None:
    refused = desk.call("POST", "/v1/blocks", {"network": "203.0.113.9", "block_for": "1h", "respond": "slow"})
    assert refused.status == 422
    (error,) = refused.json["errors"]
    assert error["value"] == "slow"
    assert "'sluice setup --respond slow' creates those of slow" in error["accepted"]


def test_a_client_challenged_by_hand_is_in_the_sets_of_the_challenge_alone() -> None:
    desk = Desk(responses=[Response.CHALLENGE])
    made = desk.call("POST", "/v1/blocks", {"network": "203.0.113.9", "block_for": "1h", "respond": "challenge"})
    assert made.json["detail"] == "203.0.113.9/32 is under challenge for 1h"
    (shown,) = desk.call("GET", "/v1/blocks").json["blocks"]
    assert (shown["response"], shown["until"] - shown["blocked_at"]) == ("challenge", 3600)
    desk.run(3)
    sets = {name: addresses for name, addresses in desk.cloud.waf.published().items() if addresses}
    assert sets == {"sluice-challenge-v4": ["203.0.113.9/32"]}
    explained = desk.call("GET", "/v1/clients", address="203.0.113.9").json
    assert explained["explain"][0].startswith("203.0.113.9/32 is challenged for another 59m")
    assert desk.call("GET", "/v1/status").json["blocks"]["by_response"] == [{"response": "challenge", "blocks": 1}]

    lifted = desk.call("DELETE", "/v1/blocks", network="203.0.113.9").json
    again = desk.undo(lifted["undo"])
    assert again.json["blocks"][0]["response"] == "challenge"


def test_networks_are_in_the_order_of_their_numbers(desk: Desk) -> None:
    networks = [
        "9.9.9.9/32",
        "10.0.1.1/32",
        "10.0.2.0/24",
        "10.0.10.1/32",
        "10.0.100.1/32",
        "2001:db8:9::/64",
        "2001:db8:10::/64",
    ]
    for network in reversed(networks):
        desk.put_block(network, until=desk.now + 100)
    shown = desk.call("GET", "/v1/blocks", sort="network").json["blocks"]
    assert [block["network"] for block in shown] == networks
