"""Records that cannot be read, at the operator's desk: the API answers, names them, removes them and puts them back."""

from typing import Any

import pytest

from chalicelib.admin.schemas import LONGEST_RECORD
from chalicelib.admin.unreadable import KEPT
from chalicelib.core.state.allowlist import Allow
from chalicelib.core.state.blocks import Block
from chalicelib.core.state.kinds import RECORDS
from chalicelib.core.state.publishing import Heartbeat
from chalicelib.core.state.records import Control
from chalicelib.ports import Item
from tests.support.admin_api import Desk
from tests.support.damaged import DAMAGED, VALID

TYPED = Item(kind=Allow.kind, id="192.0.2.77/24", body=b'{"network":"192.0.2.77/24","comment":"office"}')
READS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/v1/status", {}),
    ("/v1/blocks", {}),
    ("/v1/blocks", {"text": "192.0.2.77"}),
    ("/v1/allowlist", {}),
    ("/v1/audit", {}),
    ("/v1/rules/history", {}),
    ("/v1/top", {}),
    ("/v1/series", {}),
    ("/v1/clients", {"address": "192.0.2.77"}),
)


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted({item.kind for item in DAMAGED.values()}))
def test_the_api_answers_whatever_is_stored(desk: Desk, kind: str) -> None:
    desk.attack("203.0.113.9")
    for item in DAMAGED.values():
        if item.kind == kind:
            desk.cloud.state.put_over([item])
            for path, query in READS:
                reply = desk.call("GET", path, **query)
                assert reply.status == 200, (item, reply)
    assert desk.call("PUT", "/v1/allowlist", {"network": "198.51.100.0/24"}).status == 200
    assert desk.call("POST", "/v1/blocks", {"network": "198.51.100.7", "block_for": "1h", "force": True}).status == 201
    assert desk.call("DELETE", "/v1/blocks", network="203.0.113.9/32").json["changed"] is True
    assert desk.call("POST", "/v1/pause", {}).status == desk.call("POST", "/v1/resume", {}).status == 200


def test_status_names_the_records_and_each_is_shown_removed_and_put_back(desk: Desk) -> None:
    desk.cloud.state.put_over([TYPED])
    assert desk.call("GET", "/v1/status").json["unreadable"] == []
    desk.run(61)
    (listed,) = desk.call("GET", "/v1/status").json["unreadable"]
    assert (listed["kind"], listed["id"]) == ("allow", TYPED.id)
    assert "has host bits set; the network is 192.0.2.0/24" in listed["reason"]
    shown = desk.call("GET", "/v1/unreadable", kind="allow", id=TYPED.id).json
    assert (shown["body"], shown["reason"]) == (TYPED.body.decode(), listed["reason"])

    removed = desk.call("DELETE", "/v1/unreadable", kind="allow", id=TYPED.id).json
    assert (removed["changed"], removed["detail"]) == (True, "allow 192.0.2.77/24 is removed")
    assert desk.cloud.state.get("allow", TYPED.id) is None
    assert desk.call("GET", "/v1/status").json["unreadable"] == []
    assert desk.call("DELETE", "/v1/unreadable", kind="allow", id=TYPED.id).json["changed"] is False
    assert desk.call("GET", "/v1/unreadable", kind="allow", id=TYPED.id).status == 404

    again = desk.undo(removed["undo"]).json
    assert again["changed"] is True
    item = desk.cloud.state.get("allow", TYPED.id)
    assert item is not None
    assert item.body == TYPED.body
    assert desk.undo(removed["undo"]).json["changed"] is False
    desk.undo(again["undo"])
    assert desk.cloud.state.get("allow", TYPED.id) is None
    assert [record.action for record in desk.audit()] == ["record.delete", "record.put", "record.delete"]


@pytest.mark.parametrize("what", DAMAGED)
def test_every_unreadable_record_is_removed_and_put_back_as_it_was(desk: Desk, what: str) -> None:
    item = DAMAGED[what]
    if len(item.body) > LONGEST_RECORD or item.kind in KEPT:
        desk.cloud.state.put_over([item])
        assert desk.call("DELETE", "/v1/unreadable", kind=item.kind, id=item.id).status == 422
        return
    desk.cloud.state.put_over([item])
    removed = desk.call("DELETE", "/v1/unreadable", kind=item.kind, id=item.id).json
    assert removed["changed"] is True
    assert desk.cloud.state.get(item.kind, item.id) is None
    assert desk.undo(removed["undo"]).json["changed"] is True
    stored = desk.cloud.state.get(item.kind, item.id)
    assert stored is not None
    assert stored.body == item.body


def test_only_what_cannot_be_read_is_shown_removed_or_written(desk: Desk) -> None:
    block = desk.put_block("203.0.113.9/32")
    assert desk.call("GET", "/v1/unreadable", kind="block", id=block.id).status == 404
    kept = desk.call("DELETE", "/v1/unreadable", kind="block", id=block.id).json
    assert (kept["changed"], kept["detail"]) == (False, "the block record 203.0.113.9/32 can be read")
    for (kind, id), record in VALID.items():
        body = {"kind": kind, "id": id, "body": record.to_json().decode()}
        refused = desk.call("PUT", "/v1/unreadable", body)
        assert (refused.status, refused.fields) == (422, ["body"])
    taken = desk.call("PUT", "/v1/unreadable", {"kind": "block", "id": block.id, "body": "{}"})
    assert (taken.status, taken.fields) == (422, ["id"])
    unknown = desk.call("PUT", "/v1/unreadable", {"kind": "control", "id": "feeds", "body": "{}"})
    assert unknown.status == 422
    assert desk.call("GET", "/v1/unreadable", kind="control", id="feeds").status == 404
    assert desk.call("GET", "/v1/unreadable", kind="tally", id="x").status == 422


def test_a_viewer_sees_them_and_changes_nothing(desk: Desk) -> None:
    desk.cloud.state.put_over([TYPED])
    assert desk.call("GET", "/v1/unreadable", kind="allow", id=TYPED.id, by="wallboard").status == 200
    assert desk.call("DELETE", "/v1/unreadable", kind="allow", id=TYPED.id, by="wallboard").status == 403


def test_the_kinds_that_can_be_named_are_those_that_exist(openapi: dict[str, object]) -> None:
    parameters = openapi["paths"]["/v1/unreadable"]["get"]["parameters"]  # type: ignore[index]
    (kinds,) = [each["schema"]["enum"] for each in parameters if each["name"] == "kind"]
    assert kinds == sorted({of.kind for of in RECORDS} | {Control.kind})


def test_a_block_that_cannot_be_read_leaves_the_ip_set(desk: Desk) -> None:
    desk.attack("203.0.113.9")
    assert "203.0.113.9/32" in desk.published()
    desk.cloud.state.put_over([Item(kind=Block.kind, id="203.0.113.9/32", body=b'{"network":"203.0.113.9/32"}')])
    desk.attack("203.0.113.7")
    assert desk.published() == {"203.0.113.7/32"}
    desk.run(700)
    assert desk.published() == set()
    beat = desk.cloud.state.get(Heartbeat.kind, Heartbeat.id)
    assert beat is not None
    assert [each.id for each in Heartbeat.from_json(beat.body).unreadable] == ["203.0.113.9/32"]
    assert desk.cloud.invocation_failures == []


def test_a_block_under_an_unreadable_allowlist_entry_is_withheld(desk: Desk) -> None:
    desk.attack("203.0.113.9")
    desk.cloud.state.put_over([Item(kind=Allow.kind, id="203.0.113.0/33", body=b"{}")])
    desk.run(3)
    assert desk.published() == set()
    (block,) = desk.call("GET", "/v1/blocks").json["blocks"]
    assert block["withheld"] is True
    assert desk.call("GET", "/v1/status").json["blocks"]["withheld"] == 1
    assert desk.call("GET", "/v1/clients", address="203.0.113.9").json["blocked"] is False


@pytest.mark.parametrize("kind", sorted({item.kind for item in DAMAGED.values()}))
def test_everybody_is_blocked_and_released_whatever_else_is_stored(desk: Desk, kind: str) -> None:
    desk.attack("203.0.113.9")
    for item in DAMAGED.values():
        if item.kind == kind:
            desk.cloud.state.put_over([item])
    desk.attack("203.0.113.7")
    assert desk.published() == {"203.0.113.9/32", "203.0.113.7/32"}
    desk.run(700)
    assert desk.published() == set()
    assert desk.cloud.invocation_failures == []
