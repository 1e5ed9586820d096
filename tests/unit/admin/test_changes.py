"""The audit, idempotency keys, and concurrent changes by two operators."""

from typing import Any
from urllib.parse import urlencode

import pytest

from tests.support.admin_api import Desk

Change = tuple[str, str, dict[str, Any]]
"""Method, path and body."""

PAUSE: Change = ("POST", "/v1/pause", {"release": True})
BLOCK: Change = ("POST", "/v1/blocks", {"network": "203.0.113.9", "block_for": "1h"})
ALLOW: Change = ("PUT", "/v1/allowlist", {"network": "203.0.113.9", "comment": "mine"})
RULES: Change = ("PUT", "/v1/rules", {"text": '[[rule]]\nname = "a"\nlimit = 1\nwindow = "1s"\n'})
RESET: Change = ("POST", "/v1/breaker/reset", {})
BASED = {"If-Match": '"1"'}


@pytest.mark.parametrize("change", [PAUSE, BLOCK, ALLOW, RULES, RESET], ids=lambda change: change[1])
def test_every_change_is_audited_with_author_time_origin_detail_and_undo(desk: Desk, change: Change) -> None:
    reply = desk.call(*change, headers=BASED, by="bob", origin="192.0.2.44")
    assert reply.json["changed"] is True
    (record,) = desk.call("GET", "/v1/audit").json["records"]
    assert (record["by"], record["address"], record["at_ms"] // 1000) == ("bob", "192.0.2.44", desk.now)
    assert record["detail"] == reply.json["detail"]
    assert record["undo"] == reply.json["undo"]
    assert record["request"]
    assert record["undo"] is not None
    assert desk.undo(record["undo"]).status in (200, 201)


def test_the_audit_is_paged_newest_first(desk: Desk) -> None:
    for last in range(7):
        desk.call("POST", "/v1/blocks", {"network": f"203.0.113.{last}", "block_for": "1h"})
    seen: list[str] = []
    cursor: dict[str, Any] = {}
    while True:
        page = desk.call("GET", "/v1/audit", limit=3, **cursor).json
        seen += [record["target"] for record in page["records"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert seen == [f"203.0.113.{last}/32" for last in reversed(range(7))]


def test_the_audit_is_filtered_by_time_operator_and_text(desk: Desk) -> None:
    desk.call("POST", "/v1/blocks", {"network": "203.0.113.9", "block_for": "1h", "comment": "ticket 4712"})
    desk.call("POST", "/v1/blocks", {"network": "203.0.113.10", "block_for": "1h"}, by="bob")
    desk.clock.wait_until(desk.now + 60)
    desk.call("POST", "/v1/pause", {"comment": "ticket 4713"})

    def targets(**query: object) -> list[str]:
        return [record["target"] for record in desk.call("GET", f"/v1/audit?{urlencode(query)}").json["records"]]

    assert targets(by="bob") == ["203.0.113.10/32"]
    assert targets(text="TICKET 4712") == ["203.0.113.9/32"]
    assert targets(text="ticket") == ["enforcement", "203.0.113.9/32"]
    assert targets(since=desk.now - 30) == ["enforcement"]
    assert targets(until=desk.now - 30) == ["203.0.113.10/32", "203.0.113.9/32"]
    assert targets(text="nothing") == []


def test_a_search_of_the_audit_reads_a_bounded_part_and_goes_on(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chalicelib.admin.audit.MOST_EXAMINED", 3)
    monkeypatch.setattr("chalicelib.admin.audit.RECORDS_PER_READ", 2)
    for number in range(8):
        desk.call("PUT", "/v1/allowlist", {"network": "192.0.2.7", "comment": str(number)})
    page = desk.call("GET", "/v1/audit", text="'1'").json
    sizes = [len(page["records"])]
    while page["next"] is not None:
        page = desk.call("GET", "/v1/audit", text="'1'", cursor=page["next"]).json
        sizes.append(len(page["records"]))
    assert sizes == [0, 1, 1]


def test_the_audit_says_what_was_changed_and_why(desk: Desk) -> None:
    version = desk.call("GET", "/v1/rules").json["version"]
    match = {"If-Match": f'"{version}"'}
    desk.call("POST", "/v1/rules/edit", {"rule": "burst", "limit": 40, "comment": "ticket 4713"}, headers=match)
    desk.call("POST", "/v1/blocks", {"network": "203.0.113.9", "block_for": "1h", "comment": "scraper"})
    entry = {"network": "192.0.2.0/24", "comment": "office", "expires_at": 2_000_000_000}
    desk.call("PUT", "/v1/allowlist", entry)
    assert [change.detail for change in reversed(desk.audit())] == [
        "version 2 is active: 1 rule changed (burst: limit: 20 becomes 40); comment: ticket 4713",
        "203.0.113.9/32 is blocked for 1h; comment: scraper",
        "192.0.2.0/24 is on the allowlist until 2033-05-18T03:33:20Z; comment: office",
    ]


@pytest.mark.parametrize("change", [PAUSE, BLOCK, ALLOW, RULES, RESET], ids=lambda change: change[1])
def test_the_second_of_two_concurrent_changes_is_rejected_and_leaves_no_trace(desk: Desk, change: Change) -> None:
    method, path, body = change
    rivals = {"/v1/pause": {}, "/v1/allowlist": body | {"comment": "his"}, "/v1/blocks": body | {"block_for": "2h"}}
    rival = rivals.get(path, body)
    desk.state.rival = lambda: desk.call(method, path, rival, headers=BASED, by="bob")
    late = desk.call(*change, headers=BASED)
    assert late.status in (409, 412)
    assert [record.by for record in desk.audit()] == ["bob"]


def test_an_unblock_succeeds_while_enforce_writes_about_the_same_client(desk: Desk) -> None:
    desk.put_block("203.0.113.9/32")
    desk.state.rival = lambda: desk.put_block("203.0.113.9/32", until=desk.now + 1200)
    # put_block overwrites unconditionally, which still is a concurrent change.
    reply = desk.call("DELETE", "/v1/blocks", network="203.0.113.9")
    assert (reply.status, reply.json["changed"]) == (200, True)
    assert desk.call("GET", "/v1/blocks").json["total"] == 0


def test_a_post_repeated_with_its_key_is_executed_once_and_answered_alike(desk: Desk) -> None:
    key = {"Idempotency-Key": "deploy-17"}
    first = desk.call(*BLOCK, headers=key)
    desk.call("DELETE", "/v1/blocks", network="203.0.113.9")
    again = desk.call(*BLOCK, headers=key)
    assert again.json == first.json
    assert again.status == first.status == 201
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert desk.call("GET", "/v1/blocks").json["total"] == 0


def test_equal_keys_of_different_callers_are_independent(desk: Desk) -> None:
    key = {"Idempotency-Key": "k"}
    desk.call("POST", "/v1/pause", headers=key)
    desk.call("POST", "/v1/resume")
    assert "Idempotency-Replayed" not in desk.call("POST", "/v1/pause", headers=key, by="bob").headers


def test_the_same_key_with_another_call_is_rejected(desk: Desk) -> None:
    key = {"Idempotency-Key": "k"}
    desk.call(*BLOCK, headers=key)
    other = desk.call("POST", "/v1/blocks", {"network": "203.0.113.9", "block_for": "2h"}, headers=key)
    assert (other.status, other.fields) == (422, ["Idempotency-Key"])
    assert desk.call("POST", "/v1/pause", headers=key).status == 422


def test_two_concurrent_calls_with_one_key_are_executed_once(desk: Desk) -> None:
    key = {"Idempotency-Key": "k"}
    desk.state.rival = lambda: desk.call(*BLOCK, headers=key)
    late = desk.call(*BLOCK, headers=key)
    assert late.status == 201
    assert late.headers["Idempotency-Replayed"] == "true"
    assert len(desk.audit()) == 1


def test_a_rejected_call_does_not_use_up_its_key(desk: Desk) -> None:
    key = {"Idempotency-Key": "k"}
    desk.call("PUT", "/v1/allowlist", {"network": "203.0.113.9"})
    assert desk.call(*BLOCK, headers=key).status == 409
    desk.call("DELETE", "/v1/allowlist", network="203.0.113.9")
    assert desk.call(*BLOCK, headers=key).status == 201
