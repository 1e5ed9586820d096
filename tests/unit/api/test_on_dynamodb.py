"""The admin API on DynamoDB Local: its writes and pages are accepted by DynamoDB."""

from typing import Any

import pytest

from chalicelib.edges.state_table import StateTable
from tests.support.admin_api import Desk
from tests.support.tables import Tables

pytestmark = pytest.mark.slow

RULES = '[[rule]]\nname = "burst"\nlimit = {}\nwindow = "5s"\n'


@pytest.fixture
def stored(local_tables: Tables, new_desk: type[Desk]) -> Desk:
    return new_desk(state=StateTable(local_tables.client, local_tables.state))


def everything(desk: Desk, path: str, name: str, **query: Any) -> list[Any]:
    entries: list[Any] = []
    cursor: dict[str, Any] = {}
    while True:
        page = desk.call("GET", path, **query, **cursor).json
        entries += page[name]
        if page["next"] is None:
            return entries
        cursor = {"cursor": page["next"]}


def test_an_operators_day_on_dynamodb(stored: Desk) -> None:
    desk = stored
    assert desk.call("GET", "/v1/rules").headers["ETag"] == '"0"'
    for version in range(3):
        put = desk.call("PUT", "/v1/rules", {"text": RULES.format(version + 1)}, headers={"If-Match": f'"{version}"'})
        assert put.json["version"] == version + 1
    back = desk.call("POST", "/v1/rules/rollback", {"version": 1}, headers={"If-Match": '"3"'})
    assert back.json["version"] == 4
    assert [v["version"] for v in everything(desk, "/v1/rules/history", "versions", limit=2)] == [4, 3, 2, 1]

    wishes = [{"network": f"203.0.113.{last}", "block_for": "1h", "comment": "\u00fc <b>"} for last in range(40)]
    made = desk.call("POST", "/v1/blocks", {"blocks": wishes}, headers={"Idempotency-Key": "k"})
    assert made.status == 201
    assert desk.call("POST", "/v1/blocks", {"blocks": wishes}, headers={"Idempotency-Key": "k"}).json == made.json
    assert len(everything(desk, "/v1/blocks", "blocks", limit=7)) == 40
    assert desk.call("PUT", "/v1/allowlist", {"network": "203.0.113.0/29"}).json["lifted"] == [
        f"203.0.113.{last}/32" for last in range(8)
    ]
    lifted = desk.call("DELETE", "/v1/blocks", network=[wish["network"] for wish in wishes], forget="true").json
    assert len(lifted["lifted"]) == 32
    assert desk.call("GET", "/v1/blocks").json["total"] == 0
    assert len(desk.undo(lifted["undo"]).json["blocks"]) == 32

    desk.call("POST", "/v1/pause", {"release": True})
    assert desk.call("GET", "/v1/status").json["pause"]["release"] is True
    actions = [record["action"] for record in everything(desk, "/v1/audit", "records", limit=3)]
    assert (
        actions
        == ["pause", "block.post", "block.delete", "allowlist.put", "block.post", "rules.rollback"] + ["rules.put"] * 3
    )


def test_dynamodb_rejects_the_second_of_two_edits_too(stored: Desk) -> None:
    desk = stored
    desk.state.rival = lambda: desk.call("PUT", "/v1/allowlist", {"network": "192.0.2.1", "comment": "his"}, by="bob")
    assert desk.call("PUT", "/v1/allowlist", {"network": "192.0.2.1", "comment": "mine"}).status == 409
    assert [entry["comment"] for entry in desk.call("GET", "/v1/allowlist").json["entries"]] == ["his"]
