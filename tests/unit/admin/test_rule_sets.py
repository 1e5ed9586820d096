from typing import Any

import pytest

from chalicelib.core.responses import Response
from chalicelib.core.rules_diff import differences, rule_words
from chalicelib.core.rules_toml import parse_rules
from chalicelib.core.state.rule_sets import ACTIVE, StoredRules
from chalicelib.ports import Item
from tests.support.admin_api import Desk, Reply

ONE = '[[rule]]\nname = "burst"\nlimit = 30\nwindow = "5s"\n'


def current(desk: Desk) -> tuple[str, Any]:
    reply = desk.call("GET", "/v1/rules")
    return reply.headers["ETag"], reply.json


def put(desk: Desk, text: str, etag: str, **fields: Any) -> Reply:
    return desk.call("PUT", "/v1/rules", {"text": text, **fields}, headers={"If-Match": etag})


def test_rules_are_returned_as_json_or_as_their_original_toml(desk: Desk) -> None:
    etag, shown = current(desk)
    assert (etag, shown["version"], shown["active"]) == ('"1"', 1, True)
    assert shown["rules"][0] == {
        "name": "burst",
        "limit": 20,
        "window": "5s",
        "action": "block",
        "block_for": "10m",
        "resolution": 100,
        "aggregate": {"ipv4": 32, "ipv6": 64, "by": []},
        "scope": {},
        "escalate": {"factor": 2, "max": "1h", "memory": "1d"},
        "extend": False,
        "bucket": None,
        "measure": "requests",
        "respond": ["block"],
        "paused_until": 0,
    }
    toml = desk.call("GET", "/v1/rules", format="toml")
    assert toml.headers["Content-Type"] == "application/toml"
    assert toml.text == shown["text"]


def test_a_plan_names_the_changes_and_makes_none(desk: Desk) -> None:
    plan = desk.call("POST", "/v1/rules/plan", {"text": ONE}, by="wallboard").json
    assert {change["rule"]: change["change"] for change in plan["changes"]} == {"burst": "changed", "login": "removed"}
    assert "limit: 20 becomes 30" in plan["changes"][0]["words"]
    assert "escalate.factor: 2 is dropped" in plan["changes"][0]["words"]
    assert plan["detail"] == "1 rule removed, 1 rule changed"
    assert current(desk)[0] == '"1"'
    assert desk.audit() == []


def test_every_fault_of_a_rule_set_is_named(desk: Desk) -> None:
    bad = '[[rule]]\nname = "a"\nlimt = 3\nwindow = "2h"\n'
    for reply in (desk.call("POST", "/v1/rules/plan", {"text": bad}), put(desk, bad, '"1"')):
        assert reply.status == 422
        problems = [error["accepted"] for error in reply.json["errors"]]
        assert any("unknown key 'limt' (did you mean 'limit'?)" in problem for problem in problems)
        assert any("window" in problem for problem in problems)


def test_a_put_needs_the_version_it_is_based_on(desk: Desk) -> None:
    assert desk.call("PUT", "/v1/rules", {"text": ONE}).status == 428
    assert put(desk, ONE, "1").status == 422
    assert put(desk, ONE, '"7"').status == 412
    done = put(desk, ONE, '"1"', comment="shop launch")
    assert (done.status, done.json["version"], done.headers["ETag"]) == (200, 2, '"2"')
    assert current(desk)[1]["comment"] == "shop launch"


def test_the_second_of_two_edits_of_one_version_is_rejected_and_names_the_first_author(desk: Desk) -> None:
    assert put(desk, ONE, '"1"').status == 200
    late = desk.call("PUT", "/v1/rules", {"text": ONE.replace("30", "31")}, by="bob", headers={"If-Match": '"1"'})
    assert late.status == 412
    assert "alice" in late.json["detail"]
    assert "limit = 30" in current(desk)[1]["text"]


def test_repeating_a_put_is_harmless(desk: Desk) -> None:
    assert put(desk, ONE, '"1"').json["changed"] is True
    again = put(desk, ONE, '"1"')
    assert (again.status, again.json["changed"], again.json["version"]) == (200, False, 2)


def test_ingest_applies_a_new_rule_set(desk: Desk) -> None:
    put(desk, ONE.replace("30", "3"), '"1"')
    desk.run(11)
    desk.requests("203.0.113.9", 5)
    desk.run(5)
    assert desk.published() == {"203.0.113.9/32"}


def test_every_version_is_kept_and_can_be_activated_again(desk: Desk) -> None:
    first = current(desk)[1]["text"]
    for limit in (30, 31, 32):
        put(desk, ONE.replace("30", str(limit)), current(desk)[0])
    history = desk.call("GET", "/v1/rules/history", limit=3).json
    assert [(v["version"], v["active"]) for v in history["versions"]] == [(4, True), (3, False), (2, False)]
    rest = desk.call("GET", "/v1/rules/history", limit=3, cursor=history["next"]).json
    assert [v["version"] for v in rest["versions"]] == [1]
    assert desk.call("GET", "/v1/rules", version=1).json["text"] == first
    back = desk.call("POST", "/v1/rules/rollback", {"version": 1}, headers={"If-Match": '"4"'})
    assert (back.status, back.json["version"]) == (200, 5)
    assert current(desk)[1]["text"] == first
    assert desk.call("POST", "/v1/rules/rollback", {"version": 9}, headers={"If-Match": '"5"'}).status == 404
    assert desk.call("POST", "/v1/rules/rollback", {"version": 2}, headers={"If-Match": '"4"'}).status == 412
    assert desk.call("POST", "/v1/rules/rollback", {"version": 2}).status == 428


def test_a_change_of_rules_is_undone_by_its_undo(desk: Desk) -> None:
    before = current(desk)[1]["text"]
    done = put(desk, ONE, '"1"').json
    undone = desk.undo(done["undo"]).json
    assert current(desk)[1]["text"] == before
    desk.undo(undone["undo"])
    assert current(desk)[1]["text"] == ONE


def test_an_undo_does_not_overwrite_a_later_edit(desk: Desk) -> None:
    done = put(desk, ONE, '"1"').json
    put(desk, ONE.replace("30", "31"), '"2"')
    assert desk.undo(done["undo"]).status == 412


@pytest.mark.parametrize(
    ("line", "words"),
    [
        pytest.param("limit = 31", ["limit: 30 becomes 31"], id="a value"),
        pytest.param('limit = 30\naction = "count"', ["action: block becomes count"], id="a default"),
        pytest.param(
            "limit = 30\npaused_until = 2026-12-24T19:00:00+01:00",
            ["paused_until: 2026-12-24T18:00:00Z is added"],
            id="a time",
        ),
        pytest.param("limit = 30\nextend = true", ["extend: false becomes true"], id="a flag"),
        pytest.param(
            'limit = 30\nscope = { method = ["POST", "PUT"] }', ["scope.method: POST, PUT is added"], id="a scope"
        ),
        pytest.param("limit = 30\naggregate = { ipv4 = 24 }", ["aggregate.ipv4: 32 becomes 24"], id="an aggregate"),
    ],
)
def test_differences_use_the_words_of_the_rules(line: str, words: list[str]) -> None:
    before, after = parse_rules(ONE), parse_rules(ONE.replace("limit = 30", line))
    (change,) = differences(before, after)
    assert change.words == words
    (back,) = differences(after, before)
    assert len(back.words) == len(words)


def test_the_order_of_rules_makes_no_difference(desk: Desk) -> None:
    text = current(desk)[1]["text"]
    rules = parse_rules(text)
    turned = parse_rules("[[rule]]".join(["", *reversed(text.split("[[rule]]")[1:])]))
    assert differences(rules, turned) == []
    assert [rule_words(rule).name for rule in turned.rules] == ["login", "burst"]


def test_an_active_rule_set_that_cannot_be_read_is_replaced_and_its_versions_are_kept(desk: Desk) -> None:
    first = current(desk)[1]["text"]
    put(desk, ONE, '"1"')
    for typed in ("0000000003b", "draft"):
        desk.cloud.state.put_over([Item(kind=StoredRules.kind, id=typed, body=StoredRules(text=ONE).to_json())])
    desk.cloud.state.put_over([Item(kind=StoredRules.kind, id=ACTIVE, body=b"{", version=1)])
    etag, shown = current(desk)
    assert (etag, shown["text"], shown["rules"]) == ('"2"', "", [])
    assert shown["problem"].startswith("it cannot be read")
    versions = desk.call("GET", "/v1/rules/history").json["versions"]
    assert [version["version"] for version in versions] == [2, 1]
    back = desk.call("POST", "/v1/rules/rollback", {"version": 1}, headers={"If-Match": etag})
    assert (back.status, back.json["version"]) == (200, 3)
    assert current(desk)[1]["text"] == first
    assert desk.call("GET", "/v1/rules", version=2).json["text"] == ONE
    assert desk.undo(back.json["undo"]).status == 200
    assert current(desk)[1]["text"] == ONE


def test_an_empty_rule_set_can_replace_one_that_cannot_be_read(desk: Desk) -> None:
    desk.cloud.state.put_over([Item(kind=StoredRules.kind, id=ACTIVE, body=b"{", version=0)])
    assert put(desk, "", '"1"').json["changed"] is True
    assert current(desk)[1]["problem"] is None


def test_a_plan_names_the_rules_whose_limit_is_too_low_for_the_sample_rate(new_desk: type[Desk]) -> None:
    sampled, whole = new_desk({"SAMPLE_RATE": "25"}), new_desk()
    text = ONE + ONE.replace("burst", "calm").replace("30", "40")
    (note,) = sampled.call("POST", "/v1/rules/plan", {"text": text}).json["notes"]
    assert note.startswith("Rule burst only counts in the CloudFront real-time log")
    assert whole.call("POST", "/v1/rules/plan", {"text": text}).json["notes"] == []


# What a plan says, and what needs consent.

EVERYBODY = '[[rule]]\nname = "all"\nlimit = 0\nwindow = "5s"\n'


def test_a_plan_says_how_many_of_the_clients_counted_now_would_be_over(desk: Desk) -> None:
    for number in range(5):
        desk.requests(f"203.0.113.{number}", 1 + number)
    desk.run(5)
    tight = '[[rule]]\nname = "tight"\nlimit = 3\nwindow = "5s"\naction = "count"\n'
    (now,) = desk.call("POST", "/v1/rules/plan", {"text": tight}).json["now"]
    assert (now["rule"], now["source"], now["clients"], now["over"]) == ("tight", "cloudfront", 5, 2)
    assert now["span_s"] >= 1
    assert desk.published() == set()


def test_a_plan_names_the_rules_of_which_the_counts_say_nothing(desk: Desk) -> None:
    desk.requests("203.0.113.9", 5)
    desk.run(5)
    other = ONE + 'scope = { path = ["/not-counted-yet"] }\n'
    plan = desk.call("POST", "/v1/rules/plan", {"text": other}).json
    assert plan["now"] == []
    assert "Rule burst counts requests that no rule in force counts" in plan["notes"][-1]


@pytest.mark.parametrize(("window", "keeps_counts"), [("60s", True), ("61s", False), ("3s", False)])
def test_a_rule_starts_from_zero_if_and_only_if_its_plan_says_so(
    desk: Desk, window: str, *, keeps_counts: bool
) -> None:
    text = ONE.replace("30", "17").replace("5s", window)
    desk.run(1)
    desk.requests("203.0.113.9", 15)
    desk.run(2)
    plan = desk.call("POST", "/v1/rules/plan", {"text": text}).json
    assert any("Rule burst starts counting from zero" in note for note in plan["notes"]) is not keeps_counts
    assert put(desk, text, '"1"').status == 200
    desk.run(11)
    desk.requests("203.0.113.9", 5)
    desk.run(5)
    assert desk.published() == ({"203.0.113.9/32"} if keeps_counts else set())


def test_a_plan_names_columns_that_the_logs_lack(desk: Desk) -> None:
    desk.requests("203.0.113.9", 5)
    desk.run(5)
    plan = desk.call("POST", "/v1/rules/plan", {"text": ONE + 'scope = { country = ["DE"] }\n'}).json
    assert plan["notes"][0] == "Rule burst counts nothing: the cloudfront log lacks country."


def test_rules_that_block_everybody_are_accepted_only_with_force(desk: Desk) -> None:
    reason = "rule all blocks every client that makes one request"
    assert desk.call("POST", "/v1/rules/plan", {"text": EVERYBODY}).json["needs_force"] == [reason]
    refused = put(desk, EVERYBODY, '"1"')
    assert refused.status == 409
    assert refused.json["type"].endswith(":force-needed")
    assert reason in refused.json["detail"]
    assert current(desk)[0] == '"1"'
    assert put(desk, EVERYBODY, '"1"', force=True).status == 200
    more = EVERYBODY + ONE
    assert put(desk, more, '"2"').status == 200, "a rule that stays as it is needs no consent again"


def test_a_set_without_rules_is_accepted_only_with_force(desk: Desk) -> None:
    assert put(desk, "", '"1"').status == 409
    emptied = put(desk, "", '"1"', force=True)
    assert emptied.status == 200
    assert emptied.json["undo"]["body"] == {"version": 1}
    refilled = desk.call("POST", "/v1/rules/rollback", {"version": 1}, headers={"If-Match": '"2"'})
    assert refilled.json["undo"]["body"] == {"version": 2, "force": True}, "the undo empties it again"
    assert desk.call("POST", "/v1/rules/rollback", {"version": 2}, headers={"If-Match": '"3"'}).status == 409


def test_a_rule_whose_response_has_no_ip_sets_is_refused_by_plan_and_activation(desk: Desk) -> None:
    asking = '[[rule]]\nname = "a"\nlimit = 3\nwindow = "10s"\nrespond = ["challenge", "block"]\n'
    for reply in (desk.call("POST", "/v1/rules/plan", {"text": asking}), put(desk, asking, '"1"')):
        (error,) = reply.json["errors"]
        assert error["accepted"] == (
            "rule 'a': respond: 'challenge' is not a response that has IP sets, which is 'block'; "
            "'sluice setup --respond challenge' creates those of challenge"
        )


def test_a_plan_says_where_a_response_cannot_work_and_what_happens_instead() -> None:
    desk = Desk(responses=[Response.CHALLENGE, Response.CAPTCHA])

    def notes(**lines: str) -> list[str]:
        text = '[[rule]]\nname = "a"\nlimit = 3\nwindow = "10s"\n' + "".join(f"{k} = {v}\n" for k, v in lines.items())
        return [note for note in desk.call("POST", "/v1/rules/plan", {"text": text}).json["notes"] if "token" in note]

    ladder = '["challenge", "block"]'
    assert notes(respond=ladder) == []
    assert notes(respond=ladder, scope="{ path_prefix = ['/api/', '/shop'] }") == []
    (posts,) = notes(respond=ladder, scope="{ method = ['POST'] }")
    assert "A POST from a client without a token is answered with 202, which looks like success, and no page" in posts
    (programs,) = notes(respond='["captcha", "block"]', scope="{ path_prefix = ['/v1/API/'] }")
    assert "A program without a token is answered with 405, and cannot pass: use block" in programs
    (last,) = notes(respond='"challenge"')
    assert "add block to the ladder to stop one that continues" in last


# Edits of one rule.


def edit(desk: Desk, etag: str, **fields: Any) -> Reply:
    return desk.call("POST", "/v1/rules/edit", fields, headers={"If-Match": etag})


def test_an_edit_changes_one_rule_and_can_be_undone(desk: Desk) -> None:
    before = current(desk)[1]["text"]
    done = edit(desk, '"1"', rule="burst", action="count", limit=7)
    assert (done.status, done.json["version"]) == (200, 2)
    (change,) = done.json["changes"]
    assert (change["rule"], change["words"]) == ("burst", ["limit: 20 becomes 7", "action: block becomes count"])
    shown = current(desk)[1]
    assert (shown["rules"][0]["action"], shown["rules"][0]["limit"]) == ("count", 7)
    assert shown["comment"] == "burst: action count, limit 7"
    undo = done.json["undo"]
    assert desk.call(undo["method"], undo["path"], undo["body"], headers=undo["headers"]).status == 200
    assert current(desk)[1]["text"] == before


def test_an_edit_is_planned_before_it_is_made(desk: Desk) -> None:
    desk.requests("203.0.113.9", 8)
    desk.run(5)
    planned = desk.call("POST", "/v1/rules/plan", {"rule": "burst", "limit": 7}, by="wallboard").json
    assert [(change["rule"], change["words"]) for change in planned["changes"]] == [("burst", ["limit: 20 becomes 7"])]
    assert [(now["rule"], now["over"]) for now in planned["now"]] == [("burst", 1)]
    assert desk.call("POST", "/v1/rules/plan", {"rule": "brust", "limit": 7}).status == 404
    assert desk.call("POST", "/v1/rules/plan", {"rule": "burst"}).fields == ["action"]
    assert desk.call("GET", "/v1/rules").json["version"] == 1


def test_an_edit_names_a_wrong_rule_and_a_missing_value(desk: Desk) -> None:
    assert edit(desk, '"1"', rule="burst").status == 422
    unknown = edit(desk, '"1"', rule="brust", limit=1)
    assert (unknown.status, "Existing rules: burst, login" in unknown.json["detail"]) == (404, True)
    assert edit(desk, '"7"', rule="burst", limit=1).status == 412
    assert edit(desk, '"1"', rule="burst", limit=-1).status == 422
    assert current(desk)[0] == '"1"'


def test_an_edit_that_blocks_everybody_needs_force(desk: Desk) -> None:
    assert edit(desk, '"1"', rule="burst", limit=0).status == 409
    assert edit(desk, '"1"', rule="burst", limit=0, force=True).status == 200


def test_a_paused_rule_blocks_nobody_until_its_time_has_come(desk: Desk) -> None:
    until = int(desk.now) + 60
    done = edit(desk, '"1"', rule="burst", paused_until=until)
    assert done.status == 200
    assert current(desk)[1]["rules"][0]["paused_until"] == until
    desk.run(11)
    desk.requests("203.0.113.9", 25)
    desk.run(5)
    assert desk.published() == set()
    desk.run(60)
    desk.requests("203.0.113.9", 25)
    desk.run(5)
    assert desk.published() == {"203.0.113.9/32"}


def test_the_end_of_a_rules_pause_leaves_its_text_as_it_was(desk: Desk) -> None:
    before = current(desk)[1]["text"]
    edit(desk, '"1"', rule="burst", paused_until=2_000_000_000)
    resumed = edit(desk, '"2"', rule="burst", paused_until=0)
    assert (resumed.status, current(desk)[1]["text"]) == (200, before)
    assert current(desk)[1]["comment"] == "burst: no paused_until"
