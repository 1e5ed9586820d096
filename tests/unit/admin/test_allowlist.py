from typing import Any

from chalicelib.admin.allowlist import MOST_ENTRIES
from chalicelib.core.state import Allow
from chalicelib.pipeline.stored import State
from tests.support.admin_api import Desk


def test_an_addition_lifts_overlapping_blocks_and_reaches_the_ip_set_with_the_next_publish(desk: Desk) -> None:
    desk.attack("203.0.113.9")
    desk.attack("192.0.2.77")
    assert desk.published() == {"203.0.113.9/32", "192.0.2.77/32"}

    reply = desk.call("PUT", "/v1/allowlist", {"network": "203.0.113.0/24", "comment": "office"})
    desk.run(2)

    assert reply.status == 200
    assert reply.json["lifted"] == ["203.0.113.9/32"]
    assert desk.published() == {"192.0.2.77/32"}
    assert [block["network"] for block in desk.call("GET", "/v1/blocks").json["blocks"]] == ["192.0.2.77/32"]


def test_an_allowlisted_client_is_not_blocked_again(desk: Desk) -> None:
    desk.call("PUT", "/v1/allowlist", {"network": "203.0.113.9"})
    desk.attack("203.0.113.9")
    assert desk.published() == set()


def test_an_entry_is_in_force_until_it_expires(desk: Desk) -> None:
    desk.call("PUT", "/v1/allowlist", {"network": "192.0.2.0/24", "expires_at": desk.now + 60})
    assert [entry["network"] for entry in desk.call("GET", "/v1/allowlist").json["entries"]] == ["192.0.2.0/24"]
    desk.run(61)
    assert desk.call("GET", "/v1/allowlist").json["entries"] == []


def test_an_entry_that_expires_in_the_past_is_rejected_with_the_current_time(desk: Desk) -> None:
    reply = desk.call("PUT", "/v1/allowlist", {"network": "192.0.2.0/24", "expires_at": desk.now})
    assert (reply.status, reply.fields) == (422, ["expires_at"])
    assert str(desk.now) in reply.json["detail"]


def test_a_wide_network_needs_force(desk: Desk) -> None:
    for network in ("10.0.0.0/15", "0.0.0.0/0", "2001::/31", "::/0"):
        refused = desk.call("PUT", "/v1/allowlist", {"network": network})
        assert (refused.status, refused.json["type"]) == (409, "urn:sluice:problem:force-needed")
        assert desk.call("PUT", "/v1/allowlist", {"network": network, "force": True}).status == 200
    assert desk.call("PUT", "/v1/allowlist", {"network": "10.0.0.0/16"}).status == 200


def test_the_widest_network_accepted_without_force_is_a_setting(new_desk: type[Desk]) -> None:
    desk = new_desk({"WIDEST_IPV4": "24"})
    assert desk.call("PUT", "/v1/allowlist", {"network": "10.0.0.0/23"}).status == 409
    assert desk.call("PUT", "/v1/allowlist", {"network": "10.0.0.0/24"}).status == 200


def test_repeating_a_put_or_delete_changes_nothing_and_is_not_audited_again(desk: Desk) -> None:
    wish = {"network": "192.0.2.0/24", "comment": "probe"}
    assert desk.call("PUT", "/v1/allowlist", wish).json["changed"] is True
    assert desk.call("PUT", "/v1/allowlist", wish).json["changed"] is False
    assert desk.call("DELETE", "/v1/allowlist", network="192.0.2.0/24").json["changed"] is True
    again = desk.call("DELETE", "/v1/allowlist", network="192.0.2.0/24")
    assert (again.status, again.json["changed"]) == (200, False)
    assert [record.action for record in desk.audit()] == ["allowlist.delete", "allowlist.put"]


def test_deleting_an_unknown_entry_names_the_entries_that_overlap(desk: Desk) -> None:
    desk.call("PUT", "/v1/allowlist", {"network": "192.0.2.0/24"})
    assert "192.0.2.0/24" in desk.call("DELETE", "/v1/allowlist", network="192.0.2.7").json["detail"]


def test_every_change_of_an_entry_is_undone_by_its_undo(desk: Desk) -> None:
    def entries() -> Any:
        return desk.call("GET", "/v1/allowlist").json["entries"]

    first = desk.call("PUT", "/v1/allowlist", {"network": "192.0.2.0/24", "comment": "one"}).json
    before = entries()
    second = desk.call("PUT", "/v1/allowlist", {"network": "192.0.2.0/24", "comment": "two"}).json
    desk.undo(second["undo"])
    assert entries() == before
    removed = desk.call("DELETE", "/v1/allowlist", network="192.0.2.0/24").json
    desk.undo(removed["undo"])
    assert entries() == before
    desk.undo(first["undo"])
    assert entries() == []


def test_the_allowlist_is_bounded(desk: Desk) -> None:
    entries = [Allow(network=f"10.{index // 256}.{index % 256}.0/24") for index in range(MOST_ENTRIES)]
    State(desk.cloud.state).overwrite(*entries)
    assert desk.call("PUT", "/v1/allowlist", {"network": "192.0.2.0/24"}).fields == ["network"]
    assert desk.call("PUT", "/v1/allowlist", {"network": "10.0.0.0/24", "comment": "known"}).status == 200


def test_pages_have_no_gaps_while_the_list_changes(desk: Desk) -> None:
    networks = sorted(f"10.0.{third}.0/24" for third in range(25))
    for network in networks:
        desk.call("PUT", "/v1/allowlist", {"network": network})
    page = desk.call("GET", "/v1/allowlist", limit=10).json
    desk.call("DELETE", "/v1/allowlist", network=page["entries"][-1]["network"])
    seen = [entry["network"] for entry in page["entries"]]
    while page["next"]:
        page = desk.call("GET", "/v1/allowlist", limit=10, cursor=page["next"]).json
        seen += [entry["network"] for entry in page["entries"]]
    assert seen == networks
