"""Feeds in use: what a list leads to, what it cannot touch, and what happens if it cannot be used."""

import json
from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.addresses import NetworkSet, parse_network
from chalicelib.core.ipsets import SetGroup, wanted
from chalicelib.core.responses import Response
from chalicelib.core.rules_toml import parse_rules
from chalicelib.core.state.allowlist import Allow
from chalicelib.core.state.blocks import Block, BlockLengths
from chalicelib.core.state.events import Events
from chalicelib.core.state.feeds import Feed, FeedNetworks
from chalicelib.core.state.operators import Pause
from chalicelib.pipeline import feeds
from chalicelib.pipeline.active_rules import RulesInUse
from chalicelib.pipeline.feeds import BLOCK_S, CHECK_S, UNFINISHED, CheckFeeds
from chalicelib.pipeline.stored import State
from chalicelib.ports import Item, Unavailable, Write
from chalicelib.reports import FeedReport
from tests.support.clock import Clock
from tests.support.state import NOW, Store

ALLOWED = '[feeds.bot]\nurl = "https://bots.example/list"\nallow = true\n'
BLOCKED = '[feeds.drop]\nurl = "https://drop.example/list"\nrespond = "block"\n'
BOTS = ["192.0.2.0/27", "2001:db8:10::/64"]


class Site:
    """A state table, rules, and servers that publish lists."""

    def __init__(self, rules: str, store: Store | None = None) -> None:
        self.store = store or Store()
        self.state = State(self.store)
        self.clock = Clock(NOW)
        self.rules = RulesInUse(parse_rules(rules))
        self.lists: dict[str, str | Exception] = {}
        self.requested: list[str] = []

    def publish(self, networks: Sequence[str] | str | Exception, url: str = "https://bots.example/list") -> None:
        self.lists[url] = networks if isinstance(networks, str | Exception) else "\n".join(networks)

    def drop(self, networks: Sequence[str] | Exception) -> None:
        self.publish(networks, "https://drop.example/list")

    def check(self, *, after: float = CHECK_S, proxies: NetworkSet | None = None) -> FeedReport | None:
        """Lets time pass, and returns the report of the following sweep."""
        self.clock.sleep(after)
        return CheckFeeds(
            state=self.state, feeds=self, rules=lambda _: self.rules, clock=self.clock, proxies=proxies
        ).run()

    def allowed(self, by: str = "feed bot") -> list[str]:
        return sorted(each.network for each in self.state.records(Allow) if each.by == by)

    def blocked(self, by: str = "feed drop") -> list[str]:
        return sorted(network for network, block in self.store.blocks().items() if block.by == by)

    def feed(self, name: str = "bot") -> Feed:
        stored = self.state.get(Feed, name)
        assert stored is not None
        return stored.record

    def read(self, url: str) -> bytes:
        """Returns what a server publishes."""
        self.requested.append(url)
        content = self.lists[url]
        if isinstance(content, Exception):
            raise content
        return content.encode()


def test_an_allowed_list_is_on_the_allowlist_and_what_it_drops_is_removed() -> None:
    site = Site(ALLOWED)
    site.publish(BOTS)
    assert site.check() == FeedReport(name="bot", networks=2, added=2)
    assert site.allowed() == BOTS
    assert site.state.allowlist(int(site.clock())).overlaps(parse_network("192.0.2.7"))
    site.publish([BOTS[1], "198.51.100.0/24"])
    assert site.check() == FeedReport(name="bot", networks=2, added=1, removed=1)
    assert site.allowed() == ["198.51.100.0/24", BOTS[1]]
    assert site.check() == FeedReport(name="bot", networks=2)


def test_a_blocked_list_is_blocked_with_its_response_and_what_it_drops_is_lifted() -> None:
    site = Site(BLOCKED.replace('"block"', '"challenge"'))
    site.drop(BOTS)
    assert site.check() == FeedReport(name="drop", networks=2, added=2)
    now = int(site.clock())
    assert {block.response_at(now) for block in site.store.blocks().values()} == {Response.CHALLENGE}
    assert {block.ends_at for block in site.store.blocks().values()} == {now + BLOCK_S}
    site.drop(BOTS[:1])
    assert site.check() == FeedReport(name="drop", networks=1, removed=1)
    assert site.blocked() == BOTS[:1]
    events = [event for each in site.state.records(Events) for event in each.events]
    assert [(event.outcome, event.network, event.by) for event in events] == [
        ("blocked", BOTS[0], "feed drop"),
        ("blocked", BOTS[1], "feed drop"),
        ("ended", BOTS[1], "feed drop"),
    ]


def test_each_sweep_checks_one_feed_the_one_not_checked_for_longest_and_each_once_an_hour() -> None:
    site = Site(ALLOWED + BLOCKED + ALLOWED.replace("bot]", "engine]"))
    site.publish(BOTS)
    site.drop(["198.51.100.0/24"])
    names = [report.name if report else None for report in (site.check(after=60) for _ in range(63))]
    assert names == ["bot", "drop", "engine", *[None] * 57, "bot", "drop", "engine"]


@pytest.mark.parametrize(
    ("published", "problem"),
    [
        (Unavailable("bots.example answers with status 500"), "bots.example answers with status 500"),
        ("<html>", "1 of its 1 entries cannot be used"),
        ("", "it contains no networks"),
        ("\n".join(f"198.51.{n}.0/32" for n in range(100)), "it grows from 40 networks to 100"),
        ("192.0.2.0/32", "it shrinks from 40 networks to 1"),
        ("\n".join([*(f"192.0.2.{n}/32" for n in range(0, 80, 2)), "96.0.0.0/8"]), "IPv4 addresses"),
    ],
)
@pytest.mark.parametrize("rules", [ALLOWED, ALLOWED.replace("allow = true", 'respond = "block"')])
def test_a_list_that_cannot_be_used_leaves_the_last_one_in_use_and_says_why(
    published: str | Exception, problem: str, rules: str
) -> None:
    site = Site(rules)
    good = [f"192.0.2.{n}/32" for n in range(0, 80, 2)]
    site.publish(good)
    site.check()
    site.publish(published)
    report = site.check()
    assert report is not None
    assert problem in report.problem
    assert (report.networks, report.added, report.removed) == (40, 0, 0)
    assert problem in site.feed().problem
    assert site.feed().changed_at == NOW + CHECK_S
    assert len(site.allowed()) + len(site.blocked("feed bot")) == 40
    site.publish(good)
    site.check()
    assert site.feed().problem == ""


def test_a_list_longer_than_its_budget_is_rejected() -> None:
    site = Site(BLOCKED + "most = 3\n")
    site.drop([f"192.0.2.{n}" for n in range(0, 8, 2)])
    report = site.check()
    assert report is not None
    assert report.problem == "it lists 4 networks; at most 3 are used ('most')"
    assert site.blocked() == []


def test_all_feeds_together_leave_room_in_the_allowlist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "MOST_ALLOWED", 3)
    site = Site(ALLOWED + '[feeds.other]\nurl = "https://other.example/"\nallow = true\n')
    site.publish(BOTS)
    site.publish(["198.51.100.1", "198.51.100.3"], "https://other.example/")
    site.check()
    report = site.check(after=60)
    assert report is not None
    assert report.problem == "feeds have 3 entries of the allowlist, of which 1 are left"
    assert (site.allowed(), site.allowed("feed other"), site.feed("other").networks) == (BOTS, [], 0)


def test_an_entry_of_an_operator_stays_as_it_is() -> None:
    site = Site(ALLOWED)
    own = Allow(network=BOTS[0], comment="ours", by="alice", added_at=NOW, rules=("burst",))
    site.store.put(own, own.network)
    site.publish(BOTS)
    assert site.check() == FeedReport(name="bot", networks=2, added=1)
    site.publish(["198.51.100.0/24"])
    site.check()
    stored = site.state.get(Allow, BOTS[0])
    assert stored is not None
    assert stored.record == own


def test_a_block_of_an_operator_or_a_rule_stays_as_it_is_and_one_that_is_over_does_not() -> None:
    site = Site(BLOCKED)
    by_rule = site.store.block("192.0.2.1/32", until=NOW + 10**6)
    by_hand = Block(network="192.0.2.3/32", blocked_at=NOW, until=NOW + 10**6, by="alice")
    site.store.put(by_hand, by_hand.network)
    site.store.block("192.0.2.5/32", until=NOW + 1)
    site.drop([by_rule.network, by_hand.network, "192.0.2.5/32"])
    assert site.check() == FeedReport(name="drop", networks=3, added=1)
    assert site.store.blocks()[by_rule.network] == by_rule
    assert site.store.blocks()[by_hand.network] == by_hand
    assert site.blocked() == ["192.0.2.5/32"]
    site.drop(["198.51.100.0/24"])
    site.check()
    assert {by_rule.network, by_hand.network} <= site.store.blocks().keys()


def test_g5_an_allowlisted_network_is_not_published_whatever_a_feed_blocks() -> None:
    site = Site(BLOCKED)
    site.store.allow("192.0.2.128/25")
    site.drop(["192.0.2.0/24"])
    site.check()
    now = int(site.clock())
    group = SetGroup(Response.BLOCK, 4)
    listed = wanted(site.store.blocks().values(), site.state.allowlist(now), {group: 10}, now)
    assert list(map(str, listed.networks[group])) == ["192.0.2.0/25"]


def test_a_full_set_keeps_the_offenders_before_the_networks_of_a_feed_and_those_of_operators_before_both() -> None:
    site = Site(BLOCKED)
    offender = site.store.block("203.0.113.1/32", until=NOW + 10**6, at=NOW)
    by_hand = Block(network="203.0.113.7/32", blocked_at=NOW, until=NOW + 10**6, by="alice")
    site.drop(["192.0.2.0/24"])
    site.check(after=0)
    (listed,) = site.store.blocks().keys() - {offender.network}
    blocks = [site.store.blocks()[listed], offender, by_hand]
    group = SetGroup(Response.BLOCK, 4)
    later = Block(network="203.0.113.3/32", blocked_at=NOW + 1, until=NOW + 10**6, rule="burst")
    fitting = wanted([*blocks, later], NetworkSet(()), {group: 2}, NOW)
    assert set(map(str, fitting.networks[group])) == {by_hand.network, later.network}


def test_no_feed_blocks_the_networks_of_proxies() -> None:
    site = Site(BLOCKED)
    site.drop(["192.0.2.0/24", "198.51.100.0/24"])
    site.check(proxies=NetworkSet([parse_network("192.0.2.7")]))
    assert site.blocked() == ["198.51.100.0/24"]


def test_nothing_is_blocked_while_enforcement_is_paused_and_the_next_check_blocks_it() -> None:
    site = Site(BLOCKED)
    site.drop(BOTS)
    site.state.overwrite(Pause(paused=True))
    site.check()
    assert site.blocked() == []
    site.state.overwrite(Pause())
    site.check()
    assert site.blocked() == BOTS


def test_a_feeds_blocks_are_prolonged_while_it_fails_and_end_when_sweeps_do() -> None:
    site = Site(BLOCKED)
    site.drop(BOTS)
    site.check()
    first = int(site.clock())
    site.drop(Unavailable("drop.example is down"))
    site.check(after=BLOCK_S // 2 - 1)
    assert {block.ends_at for block in site.store.blocks().values()} == {first + BLOCK_S}
    site.check()
    assert {block.ends_at for block in site.store.blocks().values()} == {int(site.clock()) + BLOCK_S}
    assert not any(block.in_force(int(site.clock()) + BLOCK_S) for block in site.store.blocks().values())


def test_a_block_by_a_rule_that_ends_soon_is_not_prolonged_by_a_feed() -> None:
    site = Site(BLOCKED)
    block = site.store.block("192.0.2.1/32", until=NOW + CHECK_S + 600)
    site.drop([block.network])
    site.check()
    assert site.store.blocks()[block.network] == block


def test_a_feeds_blocks_get_another_response_with_the_next_sweep() -> None:
    site = Site(BLOCKED)
    site.drop(BOTS)
    site.check()
    site.rules = RulesInUse(parse_rules(BLOCKED.replace('"block"', '"challenge"')))
    site.check(after=60)
    now = int(site.clock())
    assert {block.response_at(now) for block in site.store.blocks().values()} == {Response.CHALLENGE}


def test_a_feed_that_leaves_the_rules_loses_its_entries_and_blocks_at_the_next_sweep() -> None:
    site = Site(ALLOWED + BLOCKED)
    site.publish(BOTS)
    site.drop(["198.51.100.0/24"])
    site.check()
    site.check(after=60)
    site.rules = RulesInUse(parse_rules(ALLOWED))
    assert site.check(after=60) == FeedReport(name="drop", removed=1)
    assert (site.allowed(), site.blocked()) == (BOTS, [])
    site.rules = RulesInUse(parse_rules(""))
    assert site.check(after=60) == FeedReport(name="bot", removed=2)
    assert (site.allowed(), site.state.records(Feed), site.state.records(FeedNetworks)) == ([], [], [])
    assert site.check() is None


def test_a_feed_that_is_blocked_from_now_on_is_allowed_no_longer_and_back() -> None:
    site = Site(ALLOWED)
    site.publish(BOTS)
    site.check()
    site.rules = RulesInUse(parse_rules(ALLOWED.replace("allow = true", 'respond = "block"')))
    site.check(after=60)
    assert (site.allowed(), site.blocked("feed bot")) == ([], BOTS)
    site.rules = RulesInUse(parse_rules(ALLOWED))
    site.check(after=60)
    assert (site.allowed(), site.blocked("feed bot")) == (BOTS, [])


def test_another_address_is_another_list_whatever_its_length() -> None:
    site = Site(ALLOWED)
    site.publish([f"192.0.2.{n}" for n in range(0, 80, 2)])
    site.check()
    site.rules = RulesInUse(parse_rules(ALLOWED.replace("/list", "/other")))
    site.publish(["198.51.100.0/24"], "https://bots.example/other")
    site.check(after=60)
    assert site.allowed() == ["198.51.100.0/24"]


def test_no_feed_is_checked_while_the_rules_are_not_known_for_certain() -> None:
    site = Site(ALLOWED)
    site.publish(BOTS)
    site.check()
    site.rules = RulesInUse(parse_rules(""), "the stored rule set is not valid")
    assert site.check() is None
    assert site.allowed() == BOTS


def test_a_check_that_does_not_end_is_noted_and_not_repeated_before_the_next_hour() -> None:
    site = Site(ALLOWED)
    site.publish(MemoryError("killed"))
    with pytest.raises(MemoryError):
        site.check()
    assert site.feed().problem == UNFINISHED
    assert site.check(after=60) is None
    site.publish(BOTS)
    assert site.check() == FeedReport(name="bot", networks=2, added=2)


def test_an_entry_that_is_changed_concurrently_stays_and_the_others_are_made() -> None:
    site = Site(ALLOWED)
    own = Allow(network=BOTS[0], by="alice")
    site.publish(BOTS)
    site.store.meddle = lambda: site.store.put(own, own.network)
    site.check()
    assert site.allowed() == BOTS[1:]
    assert site.allowed("alice") == BOTS[:1]


def test_a_block_that_is_made_concurrently_stays_and_the_others_are_made_each_with_its_event() -> None:
    site = Site(BLOCKED)
    site.state.overwrite(BlockLengths())
    site.drop(["203.0.113.1/32", "203.0.113.3/32", "203.0.113.5/32"])
    site.store.meddle = lambda: setattr(site.store, "meddle", lambda: site.store.block("203.0.113.3/32"))
    site.check()
    assert site.blocked() == ["203.0.113.1/32", "203.0.113.5/32"]
    assert site.store.blocks()["203.0.113.3/32"].rule == "burst"
    events = [event.network for each in site.state.records(Events) for event in each.events]
    assert sorted(events) == site.blocked()


def test_a_damaged_list_in_use_changes_nothing_until_it_is_replaced_by_what_is_published() -> None:
    site = Site(ALLOWED)
    site.publish(BOTS)
    site.check()
    for kind in (Feed.kind, FeedNetworks.kind):
        site.store.put_over([Item(kind=kind, id="bot", body=b'{"name":')])
    site.publish(Unavailable("bots.example is down"))
    site.check()
    assert site.allowed() == BOTS
    site.publish(BOTS[:1])
    site.check()
    assert site.allowed() == BOTS[:1]
    assert site.feed().problem == ""


class Crash(Exception):
    """The container is gone."""


class FragileStore(Store):
    """A store whose container is gone after a number of writes."""

    writes_left: int | None = None

    def write(self, writes: Sequence[Write]) -> None:
        self._count()
        super().write(writes)

    def put_over(self, items: Sequence[Item]) -> None:
        self._count()
        super().put_over(items)

    def _count(self) -> None:
        if self.writes_left is not None:
            self.writes_left -= 1
            if self.writes_left < 0:
                raise Crash


NUMBERS = st.sets(st.integers(0, 10), min_size=1)


@given(st.tuples(NUMBERS, NUMBERS, NUMBERS), st.integers(0, 8), st.booleans())
def test_a_check_that_dies_between_any_two_writes_is_completed_by_the_next(
    versions: tuple[set[int], set[int], set[int]], survives: int, blocks: bool
) -> None:
    site = Site(ALLOWED.replace("allow = true", 'respond = "block"') if blocks else ALLOWED, FragileStore())
    assert isinstance(site.store, FragileStore)
    for version, writes_left in zip(versions, (None, survives, None), strict=True):
        networks = sorted(f"192.0.2.{2 * n}/32" for n in version)
        site.publish(networks)
        site.store.writes_left = writes_left
        with suppress(Crash):
            site.check()
    assert (site.blocked("feed bot") if blocks else site.allowed()) == networks


@given(st.lists(NUMBERS, min_size=1, max_size=5), st.booleans())
def test_after_each_check_a_feed_has_exactly_what_it_lists(versions: list[set[int]], blocks: bool) -> None:
    site = Site(ALLOWED.replace("allow = true", 'respond = "block"') if blocks else ALLOWED)
    for version in versions:
        networks = sorted(f"192.0.2.{2 * n}/32" for n in version)
        site.publish(json.dumps(networks))
        site.check()
        assert (site.blocked("feed bot") if blocks else site.allowed()) == networks
