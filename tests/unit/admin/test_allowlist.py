from typing import Any

from chalicelib.admin.allowlist import MOST_ENTRIES
from chalicelib.admin.schemas import MOST_ENTRIES_AT_ONCE
from chalicelib.core.state.allowlist import Allow
from chalicelib.core.state.blocks import History, Past
from chalicelib.core.state.detections import Evidence
from chalicelib.pipeline.stored import State
from chalicelib.ports import Item
from tests.support.admin_api import Desk


def test_an_addition_lifts_the_blocks_in_it_and_reaches_the_ip_set_with_the_next_publish(desk: Desk) -> None:
    desk.attack("203.0.113.9")
    desk.attack("192.0.2.77")
    assert desk.published() == {"203.0.113.9/32", "192.0.2.77/32"}

    reply = desk.call("PUT", "/v1/allowlist", {"network": "203.0.113.0/24", "comment": "office"})
    desk.run(2)

    assert reply.status == 200
    assert reply.json["lifted"] == ["203.0.113.9/32"]
    assert desk.published() == {"192.0.2.77/32"}
    assert [block["network"] for block in desk.call("GET", "/v1/blocks").json["blocks"]] == ["192.0.2.77/32"]


def test_an_addition_is_carved_out_of_wider_blocks(desk: Desk) -> None:
    desk.put_block("203.0.113.0/29")
    reply = desk.call("PUT", "/v1/allowlist", {"network": "203.0.113.7"})
    desk.run(2)
    assert (reply.json["lifted"], reply.json["detail"]) == (
        [],
        "203.0.113.7/32 is on the allowlist; carved out of 1 wider block",
    )
    assert desk.published() == {"203.0.113.0/30", "203.0.113.4/31", "203.0.113.6/32"}
    desk.call("DELETE", "/v1/allowlist", network="203.0.113.7")
    desk.run(2)
    assert desk.published() == {"203.0.113.0/29"}


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


def test_an_entry_for_a_rule_lifts_what_only_that_rule_blocked_and_exempts_from_it_alone(desk: Desk) -> None:
    edit = {"rule": "login", "action": "block"}
    assert desk.call("POST", "/v1/rules/edit", edit, headers={"If-Match": '"1"'}).status == 200
    desk.run(12)
    desk.attack("203.0.113.9")
    assert desk.published() == {"203.0.113.9/32"}
    reply = desk.call("PUT", "/v1/allowlist", {"network": "203.0.113.0/24", "rules": ["burst"]})
    assert reply.json["lifted"] == ["203.0.113.9/32"]
    desk.attack("203.0.113.9")
    assert desk.published() == set()
    desk.requests("203.0.113.9", 40, method="POST", path="/login")
    desk.run(5)
    assert desk.published() == {"203.0.113.9/32"}
    (block,) = desk.call("GET", "/v1/blocks").json["blocks"]
    assert (block["rule"], block["withheld"]) == ("login", False)
    explained = " ".join(desk.call("GET", "/v1/clients", address="203.0.113.9").json["explain"])
    assert "203.0.113.0/24 is on the allowlist: these rules do not block it, others do: burst" in explained


def test_a_block_that_another_rule_or_an_operator_made_too_stays(desk: Desk) -> None:
    desk.put_block("192.0.2.1/32", by="alice")
    desk.put_block("192.0.2.2/32", rule="login")
    evidence = Evidence(
        rule="login",
        count=9,
        limit=5,
        window_s=60,
        first_ms=0,
        last_ms=0,
        source="cloudfront",
        detection="d",
        arrived_ms=0,
    )
    past = Past(offence=1, until=desk.now + 300, outcome="blocked", evidence=evidence)
    desk.put_block("192.0.2.3/32")
    State(desk.cloud.state).overwrite(History(network="192.0.2.3/32", rules={"login": past}))
    desk.put_block("192.0.2.4/32")
    reply = desk.call("PUT", "/v1/allowlist", {"network": "192.0.2.0/24", "rules": ["burst"]}).json
    assert reply["lifted"] == ["192.0.2.4/32"]
    assert "still blocked, because other rules blocked them too: 192.0.2.1/32, 192.0.2.3/32" in reply["detail"]


def test_an_operator_may_block_what_is_exempt_from_some_rules(desk: Desk) -> None:
    desk.call("PUT", "/v1/allowlist", {"network": "192.0.2.0/24", "rules": ["burst"]})
    reply = desk.call("POST", "/v1/blocks", {"network": "192.0.2.7", "block_for": "1h"})
    assert (reply.status, reply.json["blocks"][0]["withheld"]) == (201, False)


def test_the_name_of_no_rule_needs_force_and_the_refusal_names_the_rules(desk: Desk) -> None:
    entry = {"network": "192.0.2.0/24", "rules": ["burts"]}
    refused = desk.call("PUT", "/v1/allowlist", entry)
    assert (refused.status, refused.fields) == (409, ["rules"])
    assert "burst" in refused.json["errors"][0]["accepted"]
    assert desk.call("PUT", "/v1/allowlist", {**entry, "force": True}).json["entry"]["rules"] == ["burts"]


def test_a_change_says_what_it_was_and_what_it_becomes(desk: Desk) -> None:
    entry = {"network": "192.0.2.0/24", "comment": "office", "expires_at": 2_000_000_000}
    desk.call("PUT", "/v1/allowlist", entry)
    changed = desk.call("PUT", "/v1/allowlist", {"network": "192.0.2.0/24", "comment": "partner", "rules": ["burst"]})
    assert changed.json["detail"] == (
        "the entry for 192.0.2.0/24 is changed: comment: 'office' becomes 'partner', "
        "end: 2033-05-18T03:33:20Z becomes never, rules: all becomes burst"
    )
    others = [{"network": f"198.51.100.{host}/32"} for host in range(5)]
    desk.call("PUT", "/v1/allowlist", {"entries": others})
    many = desk.call("PUT", "/v1/allowlist", {"entries": [each | {"comment": "x"} for each in others]}).json["detail"]
    assert "198.51.100.0/32 (comment: '' becomes 'x')" in many
    assert many.endswith("; and 2 more")


def test_of_a_list_all_entries_are_added_or_none(desk: Desk) -> None:
    networks = [f"192.0.2.{number}" for number in range(MOST_ENTRIES_AT_ONCE)]
    wrong = {"entries": [{"network": name} for name in [*networks[:3], "192.0.2.7/24", "192.0.2.1/32", "10.0.0.0/8"]]}
    refused = desk.call("PUT", "/v1/allowlist", wrong)
    assert (refused.status, refused.fields) == (422, ["entries[3].network", "entries[4].network"])
    wide = desk.call("PUT", "/v1/allowlist", {"entries": [{"network": "192.0.2.1"}, {"network": "10.0.0.0/8"}]})
    assert (wide.status, wide.fields) == (409, ["entries[1].network"])
    assert desk.call("GET", "/v1/allowlist").json["entries"] == []
    long = desk.call("PUT", "/v1/allowlist", {"entries": [{"network": name} for name in [*networks, "10.0.0.1"]]})
    assert (long.status, long.fields) == (422, ["entries"])
    added = desk.call("PUT", "/v1/allowlist", {"entries": [{"network": name} for name in networks]}).json
    assert len(added["entries"]) == len(desk.call("GET", "/v1/allowlist").json["entries"]) == MOST_ENTRIES_AT_ONCE
    desk.undo(added["undo"])
    assert desk.call("GET", "/v1/allowlist").json["entries"] == []


def test_one_call_undoes_a_list_that_adds_changes_and_removes(desk: Desk) -> None:
    first = [{"network": "192.0.2.1", "comment": "one", "rules": ["burst"]}, {"network": "192.0.2.2"}]
    desk.call("PUT", "/v1/allowlist", {"entries": first})
    before = desk.call("GET", "/v1/allowlist").json["entries"]
    change = {
        "entries": [{"network": "192.0.2.1", "comment": "two"}, {"network": "192.0.2.3"}],
        "remove": ["192.0.2.2"],
    }
    answer = desk.call("PUT", "/v1/allowlist", change).json
    after = {entry["network"]: entry["rules"] for entry in desk.call("GET", "/v1/allowlist").json["entries"]}
    assert after == {"192.0.2.1/32": [], "192.0.2.3/32": []}
    desk.undo(answer["undo"])
    assert desk.call("GET", "/v1/allowlist").json["entries"] == before
    assert desk.call("PUT", "/v1/allowlist", {"entries": []}).fields == ["entries"]


def test_several_entries_are_removed_by_one_call_and_put_back_by_its_undo(desk: Desk) -> None:
    desk.call("PUT", "/v1/allowlist", {"entries": [{"network": "192.0.2.1"}, {"network": "192.0.2.2", "comment": "b"}]})
    before = desk.call("GET", "/v1/allowlist").json["entries"]
    removed = desk.call("DELETE", "/v1/allowlist", network=["192.0.2.1", "192.0.2.2", "192.0.2.3"]).json
    assert removed["detail"] == "192.0.2.1/32, 192.0.2.2/32 are off the allowlist; 192.0.2.3/32 is not on the allowlist"
    desk.undo(removed["undo"])
    assert desk.call("GET", "/v1/allowlist").json["entries"] == before


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


def test_a_damaged_block_under_any_id_does_not_keep_a_network_from_the_allowlist(desk: Desk) -> None:
    for id in ("no network", "192.0.2.7/32"):
        desk.cloud.state.put_over([Item(kind="block", id=id, body=b"{}")])
    desk.put_block("192.0.2.9/32")
    reply = desk.call("PUT", "/v1/allowlist", {"network": "192.0.2.0/24"})
    assert (reply.status, reply.json["lifted"]) == (200, ["192.0.2.9/32"])
