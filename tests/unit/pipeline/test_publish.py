"""Publish: the IP sets become equal to the wanted list."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import chain, count, pairwise
from typing import Any

import pytest

from chalicelib.core import ipsets
from chalicelib.core.addresses import Network
from chalicelib.core.ipsets import IpSet, SetGroup
from chalicelib.core.responses import Response
from chalicelib.core.state.allowlist import Allow
from chalicelib.core.state.blocks import Block
from chalicelib.core.state.breakers import Breaker
from chalicelib.core.state.detections import Detection, Evidence
from chalicelib.core.state.operators import Pause
from chalicelib.core.state.publishing import Heartbeat
from chalicelib.edges.events import state_changes
from chalicelib.edges.waf_ip_sets import WafIpSets
from chalicelib.pipeline.active_rules import RulesInUse
from chalicelib.pipeline.publish import DELIVERY_S, ENOUGH_S, LEAST_LEFT_S, MOST_ROUNDS, PACE_S, Publish
from chalicelib.pipeline.stored import State
from chalicelib.ports import Item, StreamChange, Unavailable
from chalicelib.reports import PublishReport
from sluice.local.events import state_event
from sluice.local.waf import WafStandIn
from tests.support.clock import Clock
from tests.support.state import CLIENT, NOW, RULES, Store

BEAT = [StreamChange(Heartbeat.kind, Heartbeat.id, Heartbeat(at=NOW).to_json(), True)]


class Sets(WafIpSets):
    """``before_update`` is called before every update; sets in ``broken`` cannot be used."""

    def __init__(self, waf: WafStandIn) -> None:
        super().__init__(waf, "CLOUDFRONT")  # type: ignore[arg-type]
        self.before_update: Callable[[], object] = lambda: None
        self.broken: set[str] = set()
        self.read_only: set[str] = set()
        self.lists = True
        self.calls: Counter[str] = Counter()

    def tokens(self, sets: Collection[IpSet]) -> Mapping[IpSet, str]:
        self.calls["ListIPSets"] += 1
        if not self.lists:
            raise Unavailable("ListIPSets: access denied")
        return super().tokens(sets)

    def get(self, ip_set: IpSet) -> tuple[frozenset[Network], str]:
        self.calls["GetIPSet"] += 1
        if ip_set.name in self.broken:
            raise Unavailable(f"GetIPSet {ip_set.name}: access denied")
        return super().get(ip_set)

    def update(self, ip_set: IpSet, addresses: frozenset[Network], token: str) -> str:
        self.calls["UpdateIPSet"] += 1
        self.before_update()
        if ip_set.name in self.read_only:
            raise Unavailable(f"UpdateIPSet {ip_set.name}: access denied")
        return super().update(ip_set, addresses, token)


class Publisher:
    def __init__(self, *families: int) -> None:
        self.store = Store()
        self.clock = Clock()
        self.waf = WafStandIn(self.clock, self.clock.sleep)
        self.sets = [self._made(number, family) for number, family in enumerate(families or (4, 6))]
        self.ip_sets = Sets(self.waf)
        self.publish = self.another()

    def another(self) -> Publish:
        return Publish(
            state=State(self.store),
            rules=lambda _: RulesInUse(RULES),
            ip_sets=self.ip_sets,
            sets=self.sets,
            clock=self.clock,
            sleep=self.clock.sleep,
        )

    def __call__(self, changes: list[StreamChange] | None = None) -> PublishReport:
        report = self.publish.run(BEAT if changes is None else changes)
        assert report is not None
        return report

    def told(self) -> PublishReport:
        """Publishes what has changed since the last time, as the stream tells it."""
        changes = state_changes(state_event(self.store.changes))
        self.store.changes.clear()
        return self(changes)

    def published(self) -> dict[str, list[str]]:
        return self.waf.published()

    def edit(self, number: int, *addresses: str) -> None:
        """Edits a set, as an operator can in AWS's console."""
        self.clock.sleep(2)
        ip_set = self.sets[number]
        names = {"Name": ip_set.name, "Scope": "CLOUDFRONT", "Id": ip_set.id}
        token = self.waf.get_ip_set(**names)["LockToken"]
        self.waf.update_ip_set(**names, Addresses=addresses, LockToken=token)
        self.clock.sleep(2)

    def _made(self, number: int, family: int) -> IpSet:
        name = f"set-{number}"
        made = self.waf.create_ip_set(Name=name, Scope="CLOUDFRONT", IPAddressVersion=f"IPV{family}", Addresses=[])
        return IpSet(name, made["Summary"]["Id"], family)


class Scans(Store):
    """A store that counts how often all blocks are read."""

    scans = 0

    def query(self, kind: str, **others: Any) -> Iterator[Item]:
        self.scans += kind == Block.kind
        return super().query(kind, **others)


def following() -> Publisher:
    """Returns a publisher that has read everything and follows the stream from now on."""
    publisher = Publisher()
    publisher.store = store = Scans()
    publisher.publish = publisher.another()
    store.block("198.51.100.1/32")
    publisher.told()
    publisher.clock.sleep(PACE_S)
    publisher.ip_sets.calls.clear()
    store.scans = 0
    return publisher


def block_change(block: Block, *, existed: bool = False) -> list[StreamChange]:
    return [StreamChange(Block.kind, block.network, block.to_json(), existed)]


def test_blocks_go_into_the_set_of_their_family() -> None:
    publisher = Publisher()
    publisher.store.block("192.0.2.1/32")
    publisher.store.block("2001:db8::/64")
    report = publisher()
    assert publisher.published() == {"set-0": ["192.0.2.1/32"], "set-1": ["2001:db8::/64"]}
    assert (report.updates, report.conflicts, report.failures) == (2, 0, [])
    assert report.fill == {SetGroup(Response.BLOCK, family): 1 / 10_000 for family in (4, 6)}


def test_nothing_is_sent_when_nothing_differs() -> None:
    publisher = Publisher()
    publisher.store.block()
    publisher()
    assert publisher().updates == 0


def test_updates_keep_their_pace_across_publishes() -> None:
    publisher = Publisher(4, 6)
    for network in ("192.0.2.1/32", "2001:db8::/64"):
        publisher.store.block(network)
    publisher()
    publisher.store.block("192.0.2.9/32")
    publisher()
    times = [time for time, _, _ in publisher.waf.updates]
    assert len(times) == 3
    assert all(later - earlier >= PACE_S for earlier, later in pairwise(times))
    assert publisher.waf.throttled == 0


def test_a_change_made_while_a_publish_waits_is_included() -> None:
    publisher = Publisher()
    publisher.store.block("192.0.2.1/32")
    publisher()
    publisher.store.block("192.0.2.2/32")
    wait = publisher.publish._sleep

    def sleep(seconds: float) -> None:
        publisher.store.block("192.0.2.4/32")
        wait(seconds)

    publisher.publish._sleep = sleep
    assert publisher().updates == 1
    assert publisher.published()["set-0"] == ["192.0.2.1/32", "192.0.2.2/32", "192.0.2.4/32"]


def test_whatever_is_allowlisted_is_removed_and_the_rest_of_its_block_stays() -> None:
    publisher = Publisher()
    for network in ("192.0.2.1/32", "198.51.100.0/30", "203.0.113.7/32"):
        publisher.store.block(network)
    publisher()
    publisher.store.allow("192.0.2.0/24")
    publisher.store.allow("198.51.100.3/32")
    report = publisher([StreamChange(Allow.kind, "192.0.2.0/24", b"{}", False)])
    assert publisher.published()["set-0"] == ["198.51.100.0/31", "198.51.100.2/32", "203.0.113.7/32"]
    assert report.wanted.allowlisted == 1


def test_an_expired_block_is_removed_at_the_next_heartbeat() -> None:
    publisher = Publisher()
    publisher.store.block(until=NOW + 60)
    publisher()
    assert publisher.published()["set-0"] == [CLIENT]
    publisher.clock.now = NOW + 60
    publisher()
    assert publisher.published()["set-0"] == []


def test_a_manual_change_of_an_ip_set_is_undone() -> None:
    publisher = Publisher()
    publisher.store.block()
    publisher()
    publisher.edit(0, "198.51.100.0/24")
    publisher()
    assert publisher.published()["set-0"] == [CLIENT]


def test_everything_is_read_again_after_a_lost_lock() -> None:
    """The list that the update held is older than what has won; only what is wanted now may follow."""
    publisher = Publisher()
    publisher.store.block("192.0.2.1/32")
    quicker = publisher.another()

    def overtake() -> None:
        publisher.ip_sets.before_update = lambda: None
        publisher.store.allow("192.0.2.1/32")
        publisher.store.block("192.0.2.8/32")
        quicker.run(BEAT)
        publisher.clock.sleep(2)

    publisher.ip_sets.before_update = overtake
    report = publisher()
    assert report.conflicts == 1
    assert publisher.published()["set-0"] == ["192.0.2.8/32"]
    assert [sorted(addresses) for _, _, addresses in publisher.waf.updates] == [["192.0.2.8/32"]]


def test_an_older_list_that_was_published_is_corrected() -> None:
    """The quicker publisher had nothing to write, so the older one's token was still good."""
    publisher = Publisher()
    publisher.store.block()

    def allow() -> None:
        publisher.ip_sets.before_update = lambda: None
        publisher.store.allow(CLIENT)
        publisher.another().run(BEAT)

    publisher.ip_sets.before_update = allow
    publisher()
    assert publisher.published()["set-0"] == []


def test_a_throttled_update_is_retried() -> None:
    publisher = Publisher()
    publisher.store.block()

    def spend() -> None:
        publisher.ip_sets.before_update = lambda: None
        publisher.waf._calls["update"].append(publisher.clock.now)

    publisher.ip_sets.before_update = spend
    report = publisher()
    assert (report.throttled, report.updates, report.failures) == (1, 1, [])
    assert publisher.published()["set-0"] == [CLIENT]


def test_more_sets_than_reads_per_second_are_all_published() -> None:
    publisher = Publisher(*[4] * 9, *[6] * 3)
    publisher.store.block("192.0.2.1/32")
    publisher.store.block("2001:db8::/64")
    report = publisher()
    assert report.failures == []
    assert {str(network) for network in publisher.waf.networks()} == {"192.0.2.1/32", "2001:db8::/64"}


def test_a_publish_that_never_settles_reports_the_sets_that_differ() -> None:
    publisher = Publisher()
    publisher.store.block()
    publisher.ip_sets.before_update = lambda: publisher.edit(0, "198.51.100.0/24")
    report = publisher()
    assert report.rounds == MOST_ROUNDS
    assert report.failures == [f"set-0: still differed after {MOST_ROUNDS} rounds"]


@pytest.mark.parametrize("how", ["broken", "read_only"])
def test_a_set_that_fails_is_named_and_the_others_are_published(how: str) -> None:
    publisher = Publisher(4, 6)
    publisher.store.block("192.0.2.1/32")
    publisher.store.block("2001:db8::/64")
    setattr(publisher.ip_sets, how, {"set-0"})
    report = publisher()
    assert publisher.published() == {"set-0": [], "set-1": ["2001:db8::/64"]}
    assert len(report.failures) == 1
    assert report.failures[0].startswith("set-0: ")
    assert "access denied" in report.failures[0]
    setattr(publisher.ip_sets, how, set())
    assert publisher().failures == []
    assert publisher.published()["set-0"] == ["192.0.2.1/32"]


def test_the_second_set_of_a_family_holds_what_a_failing_one_cannot() -> None:
    publisher = Publisher(4, 4)
    publisher.store.block()
    publisher.ip_sets.read_only = {"set-0"}
    publisher()
    assert publisher.published() == {"set-0": [], "set-1": [CLIENT]}


def test_a_publisher_that_follows_reads_neither_the_sets_nor_all_blocks() -> None:
    publisher = following()
    for number in range(5):
        publisher.store.block(f"192.0.2.{2 * number}/32")
        publisher.told()
        publisher.clock.sleep(PACE_S)
    assert len(publisher.published()["set-0"]) == 6
    assert publisher.ip_sets.calls == {"ListIPSets": 10, "UpdateIPSet": 5}
    assert isinstance(publisher.store, Scans)
    assert publisher.store.scans == 0


def test_a_set_that_somebody_else_has_edited_is_read_and_no_other() -> None:
    publisher = following()
    publisher.edit(0, "203.0.113.0/24")
    publisher([StreamChange(Heartbeat.kind, Heartbeat.id, Heartbeat(at=NOW + 60).to_json(), True)])
    assert publisher.published()["set-0"] == ["198.51.100.1/32"]
    assert publisher.ip_sets.calls["GetIPSet"] == 1


def test_without_permission_to_list_the_sets_they_are_read() -> None:
    publisher = following()
    publisher.ip_sets.lists = False
    publisher.store.block("192.0.2.1/32")
    assert publisher.told().failures == []
    assert publisher.published()["set-0"] == ["192.0.2.1/32", "198.51.100.1/32"]
    assert publisher.ip_sets.calls["GetIPSet"] == 4


@pytest.mark.parametrize("follows", [True, False])
def test_an_addition_to_the_allowlist_during_a_wait_is_honoured(follows: bool) -> None:
    publisher = following() if follows else Publisher()
    allowed: set[str] = set()
    for network in ("192.0.2.1/32", "2001:db8::/64"):
        publisher.store.block(network)
    wait = publisher.publish._sleep

    def sleep(seconds: float) -> None:
        """Allows the network whose set has to wait."""
        for network in publisher.store.blocks().keys() - set(map(str, publisher.waf.networks())) - allowed:
            publisher.store.allow(network)
            allowed.add(network)
        wait(seconds)

    publisher.publish._sleep = sleep
    publisher.told()
    assert len(allowed) == 1
    assert not allowed & {network for _, _, networks in publisher.waf.updates for network in networks}


@pytest.mark.parametrize("follows", [True, False])
def test_a_stream_of_changes_is_published_in_time_and_without_an_alarm(follows: bool) -> None:
    """The table takes a second to read, and each time there is another block, and another entry of the allowlist."""
    publisher = following() if follows else Publisher()
    numbers = count(2, 2)
    read = publisher.store.get

    def get(kind: str, id: str) -> Item | None:
        if id == Pause.id:
            publisher.clock.sleep(1)
            publisher.store.block(f"192.0.2.{(number := next(numbers))}/32")
            publisher.store.allow(f"203.0.113.{number // 2}/32")
        return read(kind, id)

    publisher.store.block("192.0.2.1/32")
    for number in range(50):
        publisher.store.block(f"203.0.113.{number}/32")
    publisher.store.get = get  # type: ignore[method-assign]
    for _ in range(4):
        begun = publisher.clock.now
        report = publisher.told()
        assert report.failures == []
        assert publisher.clock.now - begun < ENOUGH_S + 10
    assert "192.0.2.16/32" in publisher.published()["set-0"]


def test_a_set_that_could_not_be_updated_in_the_time_left_is_a_failure() -> None:
    publisher = Publisher(4, 4, 6)
    publisher.store.block("192.0.2.1/32")
    publisher.store.block("2001:db8::/64")
    ends = publisher.clock.now + LEAST_LEFT_S + 0.5
    report = publisher.publish.run(BEAT, lambda: ends - publisher.clock.now)
    assert report is not None
    assert report.updates == 1
    assert report.failures == ["set-2: still differed after 3 rounds"]
    assert publisher().failures == []
    assert publisher.published()["set-2"] == ["2001:db8::/64"]


def test_a_set_that_was_updated_and_has_changed_again_when_the_time_is_up_is_no_failure() -> None:
    publisher = Publisher(4)
    for number in range(10):
        publisher.store.block(f"203.0.113.{2 * number}/32")
    numbers = count()
    read = publisher.store.get

    def get(kind: str, id: str) -> Item | None:
        if id == Pause.id:
            publisher.store.allow(f"203.0.113.{2 * next(numbers)}/32")
        return read(kind, id)

    publisher.store.get = get  # type: ignore[method-assign]
    ends = publisher.clock.now + LEAST_LEFT_S + 0.5
    report = publisher.publish.run(BEAT, lambda: ends - publisher.clock.now)
    assert report is not None
    assert (report.updates, report.failures) == (1, [])


def test_more_sets_than_rounds_can_be_filled_at_once() -> None:
    publisher = Publisher(*[4] * 30)
    for ip_set in publisher.sets:
        publisher.waf._sets[ip_set.id].addresses = ["203.0.113.0/24"]
    report = publisher()
    assert (report.updates, report.failures) == (30, [])
    assert report.rounds > MOST_ROUNDS


def test_two_families_that_change_all_the_time_take_turns() -> None:
    publisher = following()
    for number in range(1, 4):
        publisher.store.block(f"192.0.2.{2 * number}/32")
        publisher.store.block(f"2001:db8:{number}::/64")
        publisher.told()
    names = [name for _, name, _ in publisher.waf.updates[1:]]
    assert names == ["set-1", "set-0"] * 3


def test_where_it_may_not_wait_it_has_itself_called_again_and_then_publishes_everything_at_once() -> None:
    publisher = following()
    invocations = 0

    def invoked() -> PublishReport | None:
        nonlocal invocations
        invocations += 1
        changes = state_changes(state_event(publisher.store.changes))
        publisher.store.changes.clear()
        return publisher.publish.run(changes, waits=False)

    publisher.store.block("2001:db8::/64")
    assert invoked() is not None
    waited = publisher.clock.now
    for number in range(1, 4):
        publisher.store.block(f"192.0.2.{2 * number}/32")
        assert invoked() is None, "the pace does not allow an update"
    assert publisher.clock.now == waited
    while publisher.store.changes:
        publisher.clock.sleep(DELIVERY_S)
        invoked()
    assert invocations < 9
    assert publisher.waf.updates[-1][2] == {f"192.0.2.{n}/32" for n in (2, 4, 6)} | {"198.51.100.1/32"}
    assert publisher.waf.throttled == 0


def evidence_of(arrived_ms: int) -> Evidence:
    """Returns evidence whose oldest record arrived at ``arrived_ms``."""
    return Evidence(
        rule="burst",
        count=11,
        limit=10,
        window_s=5,
        first_ms=0,
        last_ms=0,
        source="cloudfront",
        detection="",
        arrived_ms=arrived_ms,
    )


def test_time_to_block_of_a_publish_in_several_invocations_runs_to_the_last() -> None:
    publisher = following()
    evidence = evidence_of(NOW * 1000)
    for network in ("192.0.2.1/32", "2001:db8::/64"):
        publisher.store.put(Block(network=network, blocked_at=NOW, until=NOW + 600, evidence=evidence), network)
    reports = []
    while publisher.store.changes:
        changes = state_changes(state_event(publisher.store.changes))
        publisher.store.changes.clear()
        reports.append(publisher.publish.run(changes, waits=False))
        publisher.clock.sleep(DELIVERY_S)
    took = [report.time_to_block_ms for report in reports if report is not None]
    assert [t is None for t in took] == [True, False]
    assert took[-1] == int((publisher.clock.now - DELIVERY_S - NOW) * 1000)


@pytest.mark.parametrize("waits", [True, False])
def test_a_set_that_is_always_throttled_becomes_a_failure(waits: bool) -> None:
    publisher = following()
    publisher.ip_sets.before_update = lambda: publisher.waf._calls["update"].append(publisher.clock.now)
    publisher.store.block()
    failures: list[str] = []
    for _ in range(5 * MOST_ROUNDS):
        changes = state_changes(state_event(publisher.store.changes))
        publisher.store.changes.clear()
        report = publisher.publish.run(changes, waits=waits)
        failures += report.failures if report is not None else []
        publisher.clock.sleep(DELIVERY_S)
    assert len(failures) == 1
    assert failures[0].startswith("set-0: still differed after ")
    publisher.ip_sets.before_update = lambda: None
    assert publisher().failures == []
    assert CLIENT in publisher.published()["set-0"]


@pytest.fixture
def small_sets(monkeypatch: pytest.MonkeyPatch) -> int:
    """Sets of two networks."""
    for module in ("chalicelib.core.ipsets", "sluice.local.waf"):
        monkeypatch.setattr(f"{module}.CAPACITY", 2)
    return ipsets.CAPACITY


@pytest.mark.usefixtures("small_sets")
def test_a_family_fills_all_its_sets_and_few_of_them_change() -> None:
    publisher = Publisher(4, 4)
    networks = [f"192.0.2.{host}/32" for host in (1, 4, 8, 16)]
    for network in networks:
        publisher.store.block(network)
    publisher()
    assert sorted(chain.from_iterable(publisher.published().values())) == sorted(networks)
    before = publisher.published()
    gone = before["set-1"][0]
    publisher.store.block(gone, until=NOW)
    assert publisher().updates == 1
    assert publisher.published()["set-0"] == before["set-0"]


def releasing(publisher: Publisher) -> None:
    """Brings the publisher to a time at which the blocks in three sets of IPv6 are over."""
    publisher.store.block("198.51.100.1/32", until=NOW + 10_000)
    for number in range(6):
        publisher.store.block(f"2001:db8:{number + 1}::/64", until=NOW + 60)
    publisher()
    publisher.waf.updates.clear()
    publisher.clock.now = NOW + 60


@pytest.mark.usefixtures("small_sets")
def test_a_new_block_waits_for_the_release_of_others_from_one_set_at_most() -> None:
    publisher = Publisher(6, 6, 6, 4)
    releasing(publisher)
    hosts = iter(range(2, 100, 2))
    publisher.ip_sets.before_update = lambda: publisher.store.block(
        f"203.0.113.{next(hosts)}/32", at=int(publisher.clock.now), until=NOW + 10_000
    )
    publisher.store.block("192.0.2.1/32", at=NOW + 60, until=NOW + 10_000)
    publisher()
    names = [name for _, name, _ in publisher.waf.updates[:6]]
    assert names == ["set-3", "set-0", "set-3", "set-1", "set-3", "set-2"]


@pytest.mark.usefixtures("small_sets")
def test_an_allowlisted_network_is_released_before_those_whose_blocks_are_over() -> None:
    publisher = Publisher(6, 6, 6, 4)
    releasing(publisher)
    publisher.store.allow("198.51.100.0/24")
    publisher()
    assert [name for _, name, _ in publisher.waf.updates] == ["set-3", "set-0", "set-1", "set-2"]


@pytest.mark.usefixtures("small_sets")
def test_when_space_is_short_manual_blocks_stay_and_then_the_most_recent() -> None:
    publisher = Publisher(4)
    publisher.store.block("192.0.2.1/32", rule="manual", at=NOW - 1000)
    for age, host in ((30, 4), (10, 8), (20, 16)):
        publisher.store.block(f"192.0.2.{host}/32", at=NOW - age)
    report = publisher()
    assert publisher.published()["set-0"] == ["192.0.2.1/32", "192.0.2.8/32"]
    assert report.wanted.overflow == 2
    assert report.fill[SetGroup(Response.BLOCK, 4)] == 1


def test_a_pause_that_releases_empties_the_sets_and_its_end_fills_them() -> None:
    publisher = Publisher()
    publisher.store.block()
    publisher()
    publisher.store.put(Pause(paused=True, release=True), Pause.id)
    publisher([StreamChange(Pause.kind, Pause.id, b"{}", False)])
    assert publisher.published()["set-0"] == []
    publisher.store.put(Pause(paused=False), Pause.id)
    publisher([StreamChange(Pause.kind, Pause.id, b"{}", True)])
    assert publisher.published()["set-0"] == [CLIENT]


def test_the_sets_are_filled_again_when_a_pause_ends_by_itself() -> None:
    publisher = Publisher()
    publisher.store.block()
    publisher.store.put(Pause(paused=True, release=True, until=NOW + 60), Pause.id)
    publisher()
    assert publisher.published()["set-0"] == []
    publisher.clock.now = NOW + 60
    publisher()
    assert publisher.published()["set-0"] == [CLIENT]


def test_a_pause_that_does_not_release_leaves_the_sets_as_they_are() -> None:
    publisher = Publisher()
    publisher.store.block()
    publisher.store.put(Pause(paused=True), Pause.id)
    publisher()
    assert publisher.published()["set-0"] == [CLIENT]


@pytest.mark.parametrize(
    ("kind", "id"),
    [
        pytest.param(Detection.kind, "log/0/burst/cloudfront", id="a detection"),
        pytest.param(Breaker.kind, Breaker.id, id="the breaker"),
        pytest.param("offence", CLIENT, id="a history"),
        pytest.param("rule-set", "active", id="rules"),
    ],
)
def test_changes_that_cannot_affect_the_ip_sets_cost_no_call(kind: str, id: str) -> None:
    publisher = Publisher()
    assert publisher.publish.run([StreamChange(kind, id, b"{}", False)]) is None


def test_time_to_block_runs_from_the_arrival_of_the_oldest_record_to_the_end_of_the_publish() -> None:
    publisher = Publisher()
    evidence = evidence_of(NOW * 1000 - 700)
    block = Block(network=CLIENT, blocked_at=NOW, until=NOW + 600, rule="burst", evidence=evidence)
    publisher.store.put(block, CLIENT)
    assert publisher(block_change(block, existed=True)).time_to_block_ms is None
    publisher.edit(0)
    took = publisher(block_change(block)).time_to_block_ms
    assert took is not None
    assert took == int(publisher.clock.now * 1000) - (NOW * 1000 - 700)
