"""Audit, idempotency, and what happens when two operators are at it at the same time."""

import pytest

PAUSE = ("POST", "/v1/pause", {"release": True})
BLOCK = ("POST", "/v1/blocks", {"network": "203.0.113.9", "block_for": "1h"})
ALLOW = ("PUT", "/v1/allowlist", {"network": "203.0.113.9", "comment": "mine"})
RULES = ("PUT", "/v1/rules", {"text": '[[rule]]\nname = "a"\nlimit = 1\nwindow = "1s"\n'})
RESET = ("POST", "/v1/breaker/reset", {})
BASED = {"If-Match": '"1"'}


@pytest.mark.parametrize("change", [PAUSE, BLOCK, ALLOW, RULES, RESET], ids=lambda change: change[1])
def test_every_change_is_audited_with_who_what_when_where_and_its_undo(desk, change):
    reply = desk.call(*change, headers=BASED, by="bob", origin="192.0.2.44")
    assert reply.json["changed"] is True
    (record,) = desk.call("GET", "/v1/audit").json["records"]
    assert (record["by"], record["address"], record["at_ms"] // 1000) == ("bob", "192.0.2.44", desk.now)
    assert record["detail"] == reply.json["detail"]
    assert record["undo"] == reply.json["undo"]
    assert record["request"]
    assert record["undo"] is not None
    assert desk.undo(record["undo"]).status in (200, 201)


def test_the_audit_comes_newest_first_in_pages(desk):
    for last in range(7):
        desk.call("POST", "/v1/blocks", {"network": f"203.0.113.{last}", "block_for": "1h"})
    seen, cursor = [], {}
    while True:
        page = desk.call("GET", "/v1/audit", limit=3, **cursor).json
        seen += [record["target"] for record in page["records"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert seen == [f"203.0.113.{last}/32" for last in reversed(range(7))]


@pytest.mark.parametrize("change", [PAUSE, BLOCK, ALLOW, RULES, RESET], ids=lambda change: change[1])
def test_of_two_changes_of_one_thing_at_once_the_second_is_refused_and_leaves_no_trace(desk, change):
    method, path, body = change
    rivals = {"/v1/pause": {}, "/v1/allowlist": body | {"comment": "his"}, "/v1/blocks": body | {"block_for": "2h"}}
    rival = rivals.get(path, body)
    desk.state.rival = lambda: desk.call(method, path, rival, headers=BASED, by="bob")
    late = desk.call(*change, headers=BASED)
    assert late.status in (409, 412)
    assert [record.by for record in desk.audit()] == ["bob"]


def test_an_unblock_is_not_stopped_by_an_enforcer_that_is_busy_with_the_same_client(desk):
    desk.put_block("203.0.113.9/32")
    desk.state.rival = lambda: desk.put_block("203.0.113.9/32", until=desk.now + 1200)
    # The rival's write above goes past versions; let it count as a change of its own.
    reply = desk.call("DELETE", "/v1/blocks", network="203.0.113.9")
    assert (reply.status, reply.json["changed"]) == (200, True)
    assert desk.call("GET", "/v1/blocks").json["total"] == 0


def test_a_post_with_the_same_key_is_done_once_and_answered_alike(desk):
    key = {"Idempotency-Key": "deploy-17"}
    first = desk.call(*BLOCK, headers=key)
    desk.call("DELETE", "/v1/blocks", network="203.0.113.9")
    again = desk.call(*BLOCK, headers=key)
    assert again.json == first.json
    assert again.status == first.status == 201
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert desk.call("GET", "/v1/blocks").json["total"] == 0


def test_a_key_is_each_callers_own(desk):
    key = {"Idempotency-Key": "k"}
    desk.call("POST", "/v1/pause", headers=key)
    desk.call("POST", "/v1/resume")
    assert "Idempotency-Replayed" not in desk.call("POST", "/v1/pause", headers=key, by="bob").headers


def test_the_same_key_with_another_call_is_refused(desk):
    key = {"Idempotency-Key": "k"}
    desk.call(*BLOCK, headers=key)
    other = desk.call("POST", "/v1/blocks", {"network": "203.0.113.9", "block_for": "2h"}, headers=key)
    assert (other.status, other.fields) == (422, ["Idempotency-Key"])
    assert desk.call("POST", "/v1/pause", headers=key).status == 422


def test_two_calls_with_one_key_at_once_are_one(desk):
    key = {"Idempotency-Key": "k"}
    desk.state.rival = lambda: desk.call(*BLOCK, headers=key)
    late = desk.call(*BLOCK, headers=key)
    assert late.status == 201
    assert late.headers["Idempotency-Replayed"] == "true"
    assert len(desk.audit()) == 1


def test_a_refused_call_does_not_use_up_its_key(desk):
    key = {"Idempotency-Key": "k"}
    desk.call("PUT", "/v1/allowlist", {"network": "203.0.113.9"})
    assert desk.call(*BLOCK, headers=key).status == 409
    desk.call("DELETE", "/v1/allowlist", network="203.0.113.9")
    assert desk.call(*BLOCK, headers=key).status == 201
