"""Enforce: the effect of detections on the state table."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import pytest

from chalicelib.admin.blocks import unblock
from chalicelib.admin.schemas import UnblockQuery
from chalicelib.core.rules import Action
from chalicelib.core.state.allowlist import Allow
from chalicelib.core.state.blocks import Block, History
from chalicelib.core.state.detections import Detection, Offender
from chalicelib.core.state.operators import Pause
from chalicelib.core.tally import RETENTION_S
from chalicelib.pipeline.enforce import OFFENDERS_PER_SLICE, SAMPLE, TRIES
from chalicelib.pipeline.stored import State
from chalicelib.pipeline.sweep import Sweep
from chalicelib.ports import Contended, Item, StreamChange, Write
from chalicelib.reports import EnforceReport
from tests.support.clock import Clock
from tests.support.damaged import DAMAGED
from tests.support.known import remember
from tests.support.state import CLIENT, NOW, Store, detection, new_enforcer, stream_changes, terms

DAY = 86400


class Enforcer:
    def __init__(self, *, store: Store | None = None, stale_after_s: int = RETENTION_S) -> None:
        self.store = store or Store()
        self.clock = Clock()
        self.enforce = new_enforcer(self.store, self.clock, stale_after_s=stale_after_s)

    def decide(self, *detections: Detection) -> EnforceReport:
        return self.enforce.run(stream_changes(*detections))

    def unblock(self, at: float, *, forget: bool = False) -> None:
        state, query = State(self.store), UnblockQuery(network=[CLIENT], forget=forget)
        state.write(unblock(state, query, by="alice", now=int(at)).writes)

    def offend_again(self, **how: object) -> EnforceReport:
        """Offends again after the last block has expired and been lifted."""
        self.clock.now = max(block.until for block in self.store.blocks().values())
        Sweep(state=State(self.store), clock=self.clock).run()
        self.clock.now += 10
        return self.decide(detection(at=int(self.clock.now), **how))  # type: ignore[arg-type]


@pytest.fixture
def enforcer() -> Enforcer:
    return Enforcer()


def test_an_offender_is_blocked_from_the_moment_of_the_block(enforcer: Enforcer) -> None:
    enforcer.clock.now = NOW + 30
    report = enforcer.decide(detection(at=NOW))
    (block,) = report.blocks
    assert enforcer.store.blocks() == {CLIENT: block}
    assert (block.blocked_at, block.until, block.rule, block.offence) == (NOW + 30, NOW + 630, "burst", 1)
    assert block.evidence is not None
    assert (block.evidence.count, block.evidence.limit, block.evidence.window_s) == (11, 10, 5)
    assert enforcer.store.history().rules["burst"].until == block.until


def test_a_detection_delivered_twice_is_one_offence(enforcer: Enforcer) -> None:
    enforcer.decide(detection())
    before = enforcer.store.blocks()
    report = enforcer.decide(detection())
    assert (report.blocks, report.outcomes) == ([], {"known": 1})
    assert enforcer.store.blocks() == before
    assert enforcer.store.history().rules["burst"].offence == 1


def test_a_detection_redelivered_after_its_block_was_lifted_does_not_block(enforcer: Enforcer) -> None:
    enforcer.decide(detection())
    enforcer.clock.now = NOW + 700
    Sweep(state=State(enforcer.store), clock=enforcer.clock).run()
    assert enforcer.decide(detection()).outcomes == {"known": 1}
    assert enforcer.store.blocks() == {}


def test_each_new_offence_doubles_the_block_up_to_the_longest(enforcer: Enforcer) -> None:
    lengths = [enforcer.decide(detection()).blocks[0].until - NOW]
    for _ in range(3):
        (block,) = enforcer.offend_again().blocks
        lengths.append(block.until - int(enforcer.clock.now))
    assert lengths == [600, 1200, 2000, 2000]


@pytest.mark.parametrize(("days", "offence"), [(0.9, 2), (1.1, 1)])
def test_offences_are_forgotten_after_the_memory_of_the_rule(enforcer: Enforcer, days: float, offence: int) -> None:
    enforcer.decide(detection())
    enforcer.clock.now = NOW + 601
    Sweep(state=State(enforcer.store), clock=enforcer.clock).run()
    enforcer.clock.now += int(days * DAY)
    (block,) = enforcer.decide(detection(at=int(enforcer.clock.now))).blocks
    assert block.offence == offence


def test_a_history_is_stored_for_as_long_as_its_longest_rule_remembers(enforcer: Enforcer) -> None:
    enforcer.decide(detection(of=terms("long", memory_s=300 * DAY)))
    for write in (lambda: None, lambda: enforcer.offend_again(of=terms("short", memory_s=60))):
        write()
        item = enforcer.store.get(History.kind, CLIENT)
        assert item is not None
        assert item.expires_at is not None
        assert item.expires_at >= NOW + 601 + 300 * DAY


def test_a_count_rule_records_the_offence_without_blocking(enforcer: Enforcer) -> None:
    for at in (NOW, NOW + 5):
        assert enforcer.decide(detection(at=at, of=terms(action=Action.COUNT))).outcomes == {"counted": 1}
    assert enforcer.store.blocks() == {}
    past = enforcer.store.history().rules["burst"]
    assert (past.outcome, past.evidence.last_ms) == ("counted", NOW * 1000)


def test_of_many_offences_that_block_nobody_a_sample_is_stored(enforcer: Enforcer) -> None:
    """Otherwise a rule that only counts would cost a write for each client."""
    enforcer.store.allow("198.51.100.0/24")
    counted = [f"203.0.113.{host}/32" for host in range(100)]
    offenders = [Offender(name, 11 + at, 0, NOW * 1000, NOW * 1000) for at, name in enumerate(counted)]
    found = msgspec.structs.replace(detection(of=terms(action=Action.COUNT)), offenders=tuple(offenders))
    report = enforcer.decide(found, many(100))
    assert report.outcomes == {"counted": 100, "allowlisted": 100}
    stored = {item.id for item in enforcer.store.query(History.kind)}
    assert stored == set(counted[-SAMPLE:]), "those with the highest counts"


def test_a_rule_switched_from_count_to_block_blocks_clients_that_continue(enforcer: Enforcer) -> None:
    """And does not wait until the block that was never made would have ended, nor escalate."""
    for at in (NOW - 2000, NOW):
        enforcer.decide(detection(at=at, of=terms(action=Action.COUNT)))
    enforcer.clock.now = NOW + 21
    (block,) = enforcer.decide(detection(at=NOW + 20)).blocks
    assert (block.offence, block.until) == (1, NOW + 621)
    assert enforcer.store.history().rules["burst"].outcome == "blocked"


def test_an_allowlisted_offender_is_not_blocked(enforcer: Enforcer) -> None:
    enforcer.store.allow("192.0.2.0/24")
    assert enforcer.decide(detection()).outcomes == {"allowlisted": 1}
    assert enforcer.store.blocks() == {}


def test_one_allowlisted_address_does_not_spare_the_network_around_it(enforcer: Enforcer) -> None:
    enforcer.store.allow("192.0.2.77/32")
    assert enforcer.decide(detection("192.0.2.0/24")).outcomes == {"blocked": 1}


def test_an_entry_for_one_rule_spares_its_network_from_that_rule_alone(enforcer: Enforcer) -> None:
    enforcer.store.allow(CLIENT, "burst", "static")
    report = enforcer.decide(detection(of=terms("burst")), detection(of=terms("login")))
    assert report.outcomes == {"allowlisted": 1, "blocked": 1}
    assert enforcer.store.blocks()[CLIENT].rule == "login"


def test_an_expired_allowlist_entry_does_not_protect(enforcer: Enforcer) -> None:
    enforcer.store.allow(CLIENT, expires_at=NOW)
    assert enforcer.decide(detection()).outcomes == {"blocked": 1}


def test_a_client_that_continues_after_leaving_the_allowlist_is_blocked(enforcer: Enforcer) -> None:
    enforcer.store.allow(CLIENT, expires_at=NOW + 10)
    enforcer.decide(detection())
    enforcer.clock.now = NOW + 20
    assert enforcer.decide(detection(at=NOW + 20)).outcomes == {"blocked": 1}


def test_a_late_offence_is_punished_in_full_and_one_that_is_too_old_is_not(enforcer: Enforcer) -> None:
    enforcer.clock.now = NOW + RETENTION_S
    (block,) = enforcer.decide(detection()).blocks
    assert (block.blocked_at, block.until) == (NOW + RETENTION_S, NOW + RETENTION_S + 600)
    enforcer.clock.now += 1
    assert enforcer.decide(detection("192.0.2.2/32")).outcomes == {"stale": 1}
    assert enforcer.store.blocks().keys() == {CLIENT}
    assert enforcer.store.history("192.0.2.2/32").rules["burst"].outcome == "stale"


def test_the_age_at_which_an_offence_is_stale_can_be_set() -> None:
    enforcer = Enforcer(stale_after_s=60)
    enforcer.clock.now = NOW + 61
    assert enforcer.decide(detection()).outcomes == {"stale": 1}


@pytest.mark.parametrize("lifted", [False, True])
def test_an_offence_between_a_blocks_end_and_the_sweep_is_punished(enforcer: Enforcer, lifted: bool) -> None:
    enforcer.decide(detection())
    enforcer.clock.now = NOW + 604
    if lifted:
        Sweep(state=State(enforcer.store), clock=enforcer.clock).run()
    assert enforcer.decide(detection(at=NOW + 601)).outcomes == {"known": 1}, "begun before the end"
    (block,) = enforcer.decide(detection(at=NOW + 602)).blocks
    assert (block.offence, block.until) == (2, NOW + 604 + 1200)
    assert enforcer.store.blocks() == {CLIENT: block}


def test_a_short_block_hides_no_offence_against_another_rule(enforcer: Enforcer) -> None:
    short = msgspec.structs.replace(terms("short"), block_for_s=10)
    enforcer.decide(detection(of=short, id="a"))
    enforcer.clock.now = NOW + 1
    report = enforcer.decide(detection(at=NOW + 1, id="b"))
    assert report.outcomes == {"blocked": 1}
    assert (enforcer.store.blocks()[CLIENT].rule, enforcer.store.blocks()[CLIENT].until) == ("burst", NOW + 601)
    assert {name: past.until for name, past in enforcer.store.history().rules.items()} == {
        "short": NOW + 10,
        "burst": NOW + 601,
    }


@pytest.mark.parametrize(
    ("blocked", "after", "outcome"),
    [
        pytest.param(CLIENT, 100, "known", id="while it is blocked"),
        pytest.param(CLIENT, 600 + 300, "known", id="while the release is being applied"),
        pytest.param(CLIENT, 600 + 303, "blocked", id="later: an origin may refuse as well"),
        pytest.param("192.0.2.0/24", 100, "known", id="while a wider network is blocked"),
        pytest.param("192.0.2.0/24", 600 + 300, "known", id="while a wider network is being released"),
        pytest.param("198.51.100.0/24", 100, "blocked", id="while another network is blocked"),
    ],
)
@pytest.mark.parametrize("swept", [False, True])
def test_own_refusals_are_no_offence(enforcer: Enforcer, blocked: str, after: int, outcome: str, swept: bool) -> None:
    enforcer.decide(detection(blocked, of=terms("other")))
    enforcer.clock.now = NOW + after
    if swept:
        Sweep(state=State(enforcer.store), clock=enforcer.clock).run()
    assert enforcer.decide(detection(at=NOW + after, served_since_ms=-1)).outcomes == {outcome: 1}


@pytest.mark.parametrize(
    ("blocked", "outcome"), [("192.0.2.7/32", "known"), ("192.0.0.0/16", "known"), ("2001:db8::/64", "blocked")]
)
def test_refusals_of_blocked_clients_do_not_count_for_their_network(
    enforcer: Enforcer, blocked: str, outcome: str
) -> None:
    """Otherwise one client that continues while it is refused would have its neighbours blocked."""
    enforcer.decide(detection(blocked, of=terms("other")))
    fleet = detection("192.0.2.0/24", at=NOW + 60, served_since_ms=-1, of=terms("fleet"))
    enforcer.clock.now = NOW + 60
    assert enforcer.decide(fleet).outcomes == {outcome: 1}
    served = detection("192.0.2.0/24", at=NOW + 60, served_since_ms=(NOW + 59) * 1000, of=terms("fleet"))
    assert enforcer.decide(served).outcomes == ({"blocked": 1} if outcome == "known" else {"known": 1})


def test_refusals_by_a_wider_block_explain_requests_for_as_long_as_a_quota_counts_them(enforcer: Enforcer) -> None:
    enforcer.decide(detection("192.0.2.0/24", of=terms("other")))
    enforcer.clock.now = NOW + 3 * DAY
    weekly = detection(at=NOW + 100, served_since_ms=-1, of=terms("weekly", window_s=7 * DAY))
    (offender,) = weekly.offenders
    until_now = msgspec.structs.replace(offender, last_ms=(NOW + 3 * DAY) * 1000)
    weekly = msgspec.structs.replace(weekly, offenders=(until_now,))
    assert enforcer.decide(weekly).outcomes == {"known": 1}


@pytest.mark.parametrize("lifted", ["at its end", "by an operator"])
def test_an_offence_against_a_quota_is_remembered_while_the_window_holds_its_requests(
    enforcer: Enforcer, lifted: str
) -> None:
    """Otherwise the client would be blocked again for them, and what an operator forgave would be punished."""
    enforcer.decide(detection(of=terms("monthly", window_s=31 * DAY)))
    if lifted == "by an operator":
        enforcer.unblock(NOW + 60)
    else:
        enforcer.clock.now = NOW + 600
        Sweep(state=State(enforcer.store), clock=enforcer.clock).run()
    item = enforcer.store.get("offence", CLIENT)
    assert item is not None
    assert item.expires_at is not None
    assert item.expires_at >= NOW + 60 + 32 * DAY


def test_own_refusals_during_a_block_by_hand_are_no_offence(enforcer: Enforcer) -> None:
    enforcer.store.block(rule="manual", at=NOW - 100)
    assert enforcer.decide(detection(served_since_ms=-1)).outcomes == {"known": 1}
    assert enforcer.store.blocks()[CLIENT].manual


def test_a_client_that_has_fallen_out_of_full_sets_is_published_again_when_it_offends(enforcer: Enforcer) -> None:
    enforcer.decide(detection(of=terms("long", block_for_s=7 * DAY)))
    enforcer.clock.now = NOW + 3600
    report = enforcer.decide(detection(at=NOW + 3600, of=terms("long", block_for_s=7 * DAY)))
    assert report.outcomes == {"renewed": 1}
    block = enforcer.store.blocks()[CLIENT]
    assert (block.blocked_at, block.until, block.offence) == (NOW + 3600, NOW + 7 * DAY, 1)
    assert enforcer.decide(detection(at=NOW + 3601, of=terms("long", block_for_s=7 * DAY))).outcomes == {"known": 1}


@pytest.mark.parametrize("extend", [False, True])
@pytest.mark.parametrize("rule", ["burst", "other"])
def test_requests_made_before_an_unblock_do_not_count_again(enforcer: Enforcer, extend: bool, rule: str) -> None:
    enforcer.decide(detection(of=terms(extend=extend)))
    enforcer.unblock(NOW + 60.9)
    enforcer.clock.now = NOW + 65
    assert enforcer.decide(detection(at=NOW + 62, of=terms(rule, extend=extend))).outcomes == {"known": 1}
    (block,) = enforcer.decide(detection(at=NOW + 63, of=terms(rule, extend=extend))).blocks
    assert block.offence == (2 if rule == "burst" else 1)


def test_an_unblocked_client_whose_offences_are_forgotten_offends_for_the_first_time(enforcer: Enforcer) -> None:
    enforcer.decide(detection())
    enforcer.unblock(NOW + 60, forget=True)
    enforcer.clock.now = NOW + 65
    assert enforcer.decide(detection(at=NOW + 62)).outcomes == {"known": 1}
    (block,) = enforcer.decide(detection(at=NOW + 63)).blocks
    assert block.offence == 1


def test_a_rule_with_extend_prolongs_its_own_block(enforcer: Enforcer) -> None:
    extending = terms(extend=True)
    (block,) = enforcer.decide(detection(of=extending)).blocks
    enforcer.clock.now = NOW + 102
    report = enforcer.decide(detection(at=NOW + 100, of=extending, served_since_ms=-1))
    (longer,) = report.blocks
    assert report.outcomes == {"extended": 1}
    assert block.until + 101 <= longer.until < block.until + 101 + 150, "up to a quarter longer than asked for"
    assert (longer.offence, longer.blocked_at) == (1, block.blocked_at)
    assert enforcer.store.history().rules["burst"].until == longer.until


def test_a_client_that_goes_on_prolongs_its_block_four_times_within_its_length_and_not_with_each_detection(
    enforcer: Enforcer,
) -> None:
    extending = terms(extend=True)
    for at in range(0, 1200, 10):
        enforcer.clock.now = NOW + at + 2
        enforcer.decide(detection(at=NOW + at, of=extending, id=str(at), served_since_ms=-1 if at else 0))
        (block,) = enforcer.store.blocks().values()
        assert block.until >= NOW + at + 600, "never released before the time that the rule promises"
    with_block_and_history = [number for number in enforcer.store.writes if number > 1]
    assert len(with_block_and_history) <= 1 + 2 * 4 + 1


def test_an_older_detection_that_arrives_late_does_not_shorten_a_block(enforcer: Enforcer) -> None:
    extending = terms(extend=True)
    enforcer.decide(detection(at=NOW, of=extending))
    before = enforcer.store.blocks()
    assert enforcer.decide(detection(at=NOW - 100, of=extending)).outcomes == {"known": 1}
    assert enforcer.store.blocks() == before


def test_several_detections_of_a_client_in_one_batch_are_one_offence(enforcer: Enforcer) -> None:
    report = enforcer.decide(detection(id="a"), detection(at=NOW + 1, id="b"), detection(of=terms("other"), id="c"))
    assert report.outcomes == {"blocked": 2, "known": 1}
    assert report.detections == 3
    assert {name: past.offence for name, past in enforcer.store.history().rules.items()} == {"burst": 1, "other": 1}


def test_a_client_inside_a_blocked_network_is_judged_by_what_was_served(enforcer: Enforcer) -> None:
    """It made the requests before the network was blocked, and may be blocked for longer."""
    enforcer.store.block("192.0.2.0/24")
    assert enforcer.decide(detection()).outcomes == {"blocked": 1}


def test_a_blocked_network_refuses_the_neighbours_of_its_allowlisted_address(enforcer: Enforcer) -> None:
    enforcer.store.block("192.0.2.0/24")
    enforcer.store.allow("192.0.2.200/32")
    of = detection(CLIENT, "192.0.2.200/32", served_since_ms=-1)
    assert enforcer.decide(of).outcomes == {"known": 1, "allowlisted": 1}


def test_nothing_is_blocked_or_remembered_while_paused(enforcer: Enforcer) -> None:
    enforcer.store.put(Pause(paused=True), Pause.id)
    assert enforcer.decide(detection(CLIENT, "192.0.2.2/32")).outcomes == {"paused": 2}
    assert enforcer.store.blocks() == {}
    enforcer.store.put(Pause(paused=False), Pause.id)
    assert enforcer.decide(detection()).outcomes == {"blocked": 1}


def test_a_pause_ends_by_itself_at_its_last_second(enforcer: Enforcer) -> None:
    enforcer.store.put(Pause(paused=True, until=NOW + 60), Pause.id)
    enforcer.clock.now = NOW + 59.9
    assert enforcer.decide(detection()).outcomes == {"paused": 1}
    enforcer.clock.now = NOW + 60
    assert enforcer.decide(detection()).outcomes == {"blocked": 1}


def many(number: int, *, at: int = NOW) -> Detection:
    return detection(*(f"198.51.100.{host}/32" for host in range(number)), at=at)


def test_a_transaction_holds_at_most_a_hundred_writes() -> None:
    enforcer = Enforcer()
    assert len(enforcer.decide(many(120)).blocks) == 120
    assert [number for number in enforcer.store.writes if number > 1] == [99, 99, 45]


class Killed(BaseException):
    """The end of an invocation whose time is up."""


class CountingStore(Store):
    """Counts the items that are asked for, and ends the invocation that asks for too many histories."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()
        self.most_histories: int | None = None

    def get(self, kind: str, id: str) -> Item | None:
        self.asked[kind] += 1
        return super().get(kind, id)

    def get_many(self, kind: str, ids: Collection[str]) -> Mapping[str, Item]:
        self.asked[kind] += len(ids)
        if self.most_histories is not None and self.asked[History.kind] > self.most_histories:
            raise Killed
        return super().get_many(kind, ids)

    def query(self, kind: str, **options: Any) -> Iterator[Item]:
        items = list(super().query(kind, **options))
        self.asked[kind] += max(1, len(items))
        return iter(items)

    def write(self, writes: Sequence[Write]) -> None:
        asked = self.asked.copy()
        super().write(writes)
        self.asked = asked


@pytest.mark.slow
def test_an_invocation_that_is_killed_has_got_on() -> None:
    """Offenders are written in slices, and the next attempt finds them punished already."""
    store = CountingStore()
    enforcer = Enforcer(store=store)
    crowd = detection(*(f"10.0.{n >> 8}.{n & 255}/32" for n in range(2 * OFFENDERS_PER_SLICE)))
    store.most_histories = OFFENDERS_PER_SLICE
    with pytest.raises(Killed):
        enforcer.decide(crowd)
    assert len(store.blocks()) == OFFENDERS_PER_SLICE
    store.most_histories = None
    assert enforcer.decide(crowd).outcomes == {"known": OFFENDERS_PER_SLICE, "blocked": OFFENDERS_PER_SLICE}


@pytest.mark.parametrize(("served", "most"), [(0, 4), (-1, 7)])
def test_deciding_reads_the_records_concerned_and_not_every_block(served: int, most: int) -> None:
    enforcer = Enforcer(store=CountingStore())
    assert isinstance(enforcer.store, CountingStore)
    for host in range(200):
        enforcer.store.block(f"198.51.100.{host}/32")
    enforcer.store.block("192.0.2.0/24", rule="manual")
    remember(enforcer.store, ["203.0.113.9"], NOW)
    enforcer.decide(detection("203.0.113.1/32"))
    for network in (CLIENT, CLIENT, "203.0.113.1/32"):
        enforcer.store.asked.clear()
        enforcer.decide(detection(network, served_since_ms=served))
        assert enforcer.store.asked.total() <= most, enforcer.store.asked


@pytest.mark.parametrize("regulars", [["203.0.113.9"], []], ids=["with a memory", "on the first day"])
def test_deciding_about_one_client_reads_four_records_at_most(regulars: list[str]) -> None:
    """Whether it is new, goes on, is refused, or offends again."""
    enforcer = Enforcer(store=CountingStore())
    assert isinstance(enforcer.store, CountingStore)
    enforcer.store.block("192.0.0.0/16", rule="manual")
    enforcer.store.block("198.51.100.7/32", until=NOW + 10_000, rule="manual")
    if regulars:
        remember(enforcer.store, regulars, NOW)
    read = []
    for at, served, outcome in (
        (NOW, 0, "blocked"),
        (NOW + 1, 0, "known"),
        (NOW + 9, -1, "known"),
        (NOW + 900, 0, "blocked"),
    ):
        enforcer.clock.now = at
        Sweep(state=State(enforcer.store), clock=enforcer.clock).run()
        enforcer.decide(
            detection("203.0.113.1/32", at=at)
        )  # so that the container knows what it needs for every client
        enforcer.store.asked.clear()
        assert enforcer.decide(detection(at=at, served_since_ms=served)).outcomes == {outcome: 1}
        read.append(enforcer.store.asked.total())
    assert max(read) <= 4, read


def test_an_enforcer_that_is_overtaken_decides_again(enforcer: Enforcer) -> None:
    other = new_enforcer(enforcer.store, enforcer.clock)
    enforcer.store.meddle = lambda: other.run(stream_changes(detection()))
    report = enforcer.decide(detection(CLIENT, "192.0.2.2/32"))
    assert report.outcomes == {"known": 1, "blocked": 1}
    assert enforcer.store.blocks().keys() == {CLIENT, "192.0.2.2/32"}
    assert enforcer.store.history().rules["burst"].offence == 1


def test_an_enforcer_that_is_overtaken_repeatedly_fails_the_batch(enforcer: Enforcer) -> None:
    enforcer.store.lost = TRIES
    with pytest.raises(Contended, match="5 times in a row; undecided offenders: 1"):
        enforcer.decide(detection())
    assert enforcer.decide(detection()).outcomes == {"blocked": 1}


def test_other_changes_and_removed_detections_are_ignored(enforcer: Enforcer) -> None:
    changes = [
        StreamChange(Detection.kind, "gone", None, True),
        *stream_changes(Block(network=CLIENT, blocked_at=NOW, until=NOW + 1)),
    ]
    report = enforcer.enforce.run(changes)
    assert (report.detections, report.outcomes) == (0, {})


# Unreadable records


@pytest.mark.parametrize("what", DAMAGED)
def test_a_record_that_cannot_be_read_hinders_nobody_elses_block(enforcer: Enforcer, what: str) -> None:
    item = DAMAGED[what]
    enforcer.store.put_over([item])
    broken = StreamChange(item.kind, item.id, item.body, existed=False)
    report = enforcer.enforce.run([broken, *stream_changes(detection("203.0.113.1/32")), broken])
    assert set(enforcer.store.blocks()) == {"203.0.113.1/32"}
    unreadable = [each.id for each in report.unreadable]
    assert unreadable == ([item.id] * 2 if item.kind == Detection.kind else [])


@pytest.mark.parametrize("kind", [Block.kind, History.kind])
def test_an_offenders_own_records_are_replaced_if_they_cannot_be_read(enforcer: Enforcer, kind: str) -> None:
    enforcer.store.put_over([Item(kind=kind, id=CLIENT, body=b'{"network":7}', version=4)])
    report = enforcer.decide(detection(CLIENT, "192.0.2.9/32"))
    assert report.outcomes == {"blocked": 2}
    assert enforcer.store.blocks()[CLIENT].offence == 1
    assert enforcer.store.history().rules["burst"].offence == 1
    enforcer.clock.now = NOW + 700
    enforcer.store.put_over([Item(kind=History.kind, id=CLIENT, body=b"", version=9)])
    assert len(Sweep(state=State(enforcer.store), clock=enforcer.clock).run().lifted) == 2
    assert enforcer.store.history().ended_at == NOW + 600


def test_a_client_of_an_unreadable_allowlist_entry_is_not_blocked(enforcer: Enforcer) -> None:
    enforcer.store.put_over([Item(kind=Allow.kind, id="192.0.2.77/24", body=b"office")])
    report = enforcer.decide(detection(CLIENT, "198.51.100.1/32"))
    assert report.outcomes == {"allowlisted": 1, "blocked": 1}
    assert set(enforcer.store.blocks()) == {"198.51.100.1/32"}
