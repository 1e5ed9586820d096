"""Feeds as operators see them: planned with the rules, read by the sweep, and shown with what went wrong."""

from chalicelib.core.state.feeds import Feed
from chalicelib.pipeline.stored import State
from chalicelib.ports import Unavailable
from sluice.local.cloud import LocalCloud
from sluice.local.loop import SimulatedClock
from tests.support.admin_api import NOW, Desk
from tests.support.site import RULES

ALLOWED = '\n[feeds.bot]\nurl = "https://bots.example/list"\nallow = true\n'
BLOCKED = '\n[feeds.drop]\nurl = "https://drop.example/list"\nrespond = "block"\n'


def apply(desk: Desk, text: str, version: int) -> None:
    reply = desk.call("PUT", "/v1/rules", {"text": text}, headers={"If-Match": f'"{version}"'})
    assert reply.status == 200, reply.text


class Published:
    """The lists of two servers, one of which does not answer."""

    def read(self, url: str) -> bytes:
        if url == "https://drop.example/list":
            return b"203.0.113.0/24 ; SBL1\n"
        raise Unavailable("bots.example answers with status 503")


def test_a_list_that_is_blocked_reaches_the_ip_set_with_the_sweep_and_without_what_is_allowlisted() -> None:
    cloud = LocalCloud(
        SimulatedClock(NOW), rules=RULES + BLOCKED + ALLOWED, feeds=Published(), allow=[("203.0.113.128/25", "")]
    )
    cloud.start()
    cloud.loop.run(NOW + 130)
    assert set().union(*cloud.waf.published().values()) == {"203.0.113.0/25"}
    assert cloud.telemetry.failures == ["feed bot: bots.example answers with status 503"]


def test_a_plan_names_feeds_that_are_added_changed_and_removed(desk: Desk) -> None:
    added = desk.call("POST", "/v1/rules/plan", {"text": RULES + ALLOWED + BLOCKED}).json
    assert added["detail"] == "[feeds.bot] added, [feeds.drop] added"
    assert [change["words"] for change in added["changes"]] == [
        ["up to 1,000 networks of https://bots.example/list: never block"],
        ["up to 1,000 networks of https://drop.example/list: block"],
    ]
    apply(desk, RULES + ALLOWED, 1)
    changed = desk.call("POST", "/v1/rules/plan", {"text": RULES + ALLOWED + "most = 9\n"}).json
    assert changed["detail"] == "[feeds.bot] changed"
    assert changed["changes"][0]["words"] == [
        (
            "up to 1,000 networks of https://bots.example/list: never block becomes up to 9 networks of "
            "https://bots.example/list: never block"
        )
    ]
    assert desk.call("POST", "/v1/rules/plan", {"text": RULES}).json["detail"] == "[feeds.bot] removed"


def test_a_feeds_response_needs_ip_sets(desk: Desk) -> None:
    refused = desk.call(
        "PUT", "/v1/rules", {"text": RULES + BLOCKED.replace("block", "slow")}, headers={"If-Match": '"1"'}
    )
    assert refused.status == 422
    assert "feed 'drop': respond: 'slow' is not a response that has IP sets" in refused.text


def test_feeds_are_listed_with_the_reason_why_one_could_not_be_read(desk: Desk) -> None:
    assert desk.call("GET", "/v1/feeds").json["feeds"] == []
    apply(desk, RULES + ALLOWED, 1)
    desk.run(70)
    (feed,) = desk.call("GET", "/v1/feeds").json["feeds"]
    assert (feed["name"], feed["networks"], feed["problem"]) == ("bot", 0, "no feed can be read here")
    assert desk.call("GET", "/v1/status").json["feeds"] == [feed]
    assert State(desk.cloud.state).get(Feed, "bot") is not None
