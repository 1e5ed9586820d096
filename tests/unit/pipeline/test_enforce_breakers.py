"""Enforce with the breakers of the rules: who is blocked, who waits, and what happens to those who have waited."""

from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from chalicelib.core.breaker import WINDOW_S, Limits
from chalicelib.core.rules import RuleSet
from chalicelib.core.rules_toml import parse_rules
from chalicelib.core.state.blocks import History
from chalicelib.core.state.breakers import Breaker, Known, RuleBreaker, Waiting
from chalicelib.core.state.detections import Detection
from chalicelib.core.state.operators import Pause
from chalicelib.core.state.publishing import Heartbeat
from chalicelib.pipeline import enforce, waiting
from chalicelib.pipeline.active_rules import RulesInUse
from chalicelib.pipeline.enforce import OFFENDERS_PER_SLICE, Enforce
from chalicelib.pipeline.rule_breakers import reset_rule, stopped_rules
from chalicelib.pipeline.stored import State
from chalicelib.ports import Unavailable
from chalicelib.reports import EnforceReport
from tests.support.clock import Clock
from tests.support.known import remember
from tests.support.state import NOW, RULES, Store, detection, stream_changes, terms

REGULARS = [f"10.{host >> 8}.{host & 255}.1/32" for host in range(2000)]
MOST = 40
"""2 % of the regulars."""
MINUTE = 60


def strangers(number: int) -> list[str]:
    return [f"172.{16 + (host >> 16)}.{host >> 8 & 255}.{host & 255}/32" for host in range(number)]


class Site:
    """An enforcer on a site with 2,000 regulars, and what it has done."""

    def __init__(self, *, regulars: Iterable[str] = REGULARS, pace: int = 1000) -> None:
        self.store = Store()
        self.clock = Clock(NOW)
        self.rules: RuleSet = RULES
        self.problem: str | None = None
        self.pace = pace
        self.detections = 0
        if regulars:
            remember(self.store, regulars, NOW)
        self.deploy()

    def deploy(self) -> None:
        """Replaces the container by a cold one."""
        self.enforce = Enforce(
            state=State(self.store),
            clock=self.clock,
            limits=Limits(share=2, pace=self.pace),
            rules=lambda _: RulesInUse(self.rules, self.problem),
        )

    def detect(self, *networks: str, rule: str = "burst") -> EnforceReport:
        """Detects offenders now, and keeps the detections, as evaluate does; they are delivered in one event."""
        made = []
        for part in range(0, len(networks), 1000):
            self.detections += 1
            id = f"log/{self.detections:012d}/{rule}/cloudfront"
            made.append(
                detection(*networks[part : part + 1000], at=int(self.clock.now), of=terms(rule, memory_s=86400), id=id)
            )
        State(self.store).overwrite(*made)
        return self.enforce.run(stream_changes(*made))

    def beat(self, after_s: float = MINUTE) -> EnforceReport:
        self.clock.now += after_s
        return self.enforce.run(stream_changes(Heartbeat(at=int(self.clock.now))))

    def blocked(self) -> set[str]:
        return set(self.store.blocks())

    def stopped(self) -> list[str]:
        return [breaker.rule for breaker in stopped_rules(State(self.store))]

    def notes(self) -> int:
        return len(list(self.store.query(Waiting.kind)))


@pytest.fixture
def site() -> Site:
    return Site()


# Whom the breakers stop


@pytest.mark.slow
def test_ten_thousand_strangers_are_blocked_at_once_and_no_regular(site: Site) -> None:
    crowd = strangers(10_000)
    report = site.detect(*crowd)
    assert report.outcomes == {"blocked": 10_000}
    assert site.blocked() == set(crowd)
    assert (site.stopped(), site.notes()) == ([], 0)
    assert not list(site.store.query(RuleBreaker.kind)), "they cost the breaker no write"


@pytest.mark.slow
def test_a_wrong_rule_stops_itself_having_hit_at_most_its_share(site: Site) -> None:
    for number in range(0, 2000, 25):
        site.clock.now += 1
        site.detect(*REGULARS[number : number + 25])
    assert len(site.blocked()) == 25 <= MOST
    assert site.stopped() == ["burst"]


def test_a_batch_that_would_hit_too_many_blocks_nobody(site: Site) -> None:
    report = site.detect(*REGULARS[: MOST + 1], *strangers(5))
    assert (report.outcomes, report.blocks) == ({"breaker": MOST + 6}, [])
    (stopped,) = report.stopped
    assert (stopped.rule, stopped.would_hit, stopped.known) == ("burst", MOST + 1, 2000)
    assert (site.blocked(), site.notes()) == (set(), 1)
    assert not list(site.store.query(History.kind)), "nothing is decided about those who wait"


def test_a_stopped_rule_does_not_stop_the_others(site: Site) -> None:
    site.detect(*REGULARS[:100], rule="wrong")
    assert site.detect(*strangers(3), rule="right").outcomes == {"blocked": 3}
    report = site.enforce.run(
        stream_changes(
            detection("172.31.0.1/32", of=terms("wrong"), id="a"), detection("172.31.0.1/32", of=terms("right"), id="b")
        )
    )
    assert report.outcomes == {"breaker": 1, "blocked": 1}
    assert site.store.blocks()["172.31.0.1/32"].rule == "right"
    assert site.store.history("172.31.0.1/32").rules.keys() == {"right"}


@pytest.mark.slow
def test_one_machine_with_a_52_cannot_stop_a_rule() -> None:
    """Not even if it came the day before."""
    networks = [f"2001:db8:10:{number:x}::/64" for number in range(1, 4097)]
    site = Site(regulars=[*REGULARS[:100], networks[0]], pace=1)
    assert site.detect(*networks).outcomes == {"blocked": 4096}
    assert site.detect("203.0.113.1/32").outcomes == {"blocked": 1}
    assert site.stopped() == []


@pytest.mark.slow
def test_attackers_that_were_blocked_before_do_not_stop_a_rule(site: Site) -> None:
    """A client that was refused for offences is not known by them, as long as it is remembered for them."""
    for number in range(0, 1000, MOST):
        site.detect(*REGULARS[number : number + MOST])
        site.clock.now += WINDOW_S
    site.clock.now += 86400
    remember(site.store, REGULARS, int(site.clock.now))
    site.deploy()
    assert site.blocked() == set(REGULARS[:1000])
    assert site.detect(*REGULARS[:1000]).outcomes == {"blocked": 1000}


def test_a_detection_delivered_twice_stops_nothing(site: Site) -> None:
    for _ in range(3):
        site.enforce.run(stream_changes(detection(*REGULARS[:MOST])))
    assert (len(site.blocked()), site.stopped()) == (MOST, [])


def test_offenders_that_are_not_blocked_anyway_do_not_stop_a_rule(site: Site) -> None:
    for network in REGULARS[:1000]:
        site.store.allow(network)
    assert site.detect(*REGULARS[:1000]).outcomes == {"allowlisted": 1000}
    site.clock.now += 7200
    assert site.enforce.run(stream_changes(detection(*REGULARS[1000:], at=NOW))).outcomes == {"stale": 1000}
    assert site.stopped() == []


def test_an_overtaken_breaker_is_read_again(site: Site) -> None:
    other = site.enforce
    site.deploy()
    site.store.meddle = lambda: other.run(stream_changes(detection(*REGULARS[:MOST], id="other")))
    assert site.detect(*REGULARS[MOST : 2 * MOST]).outcomes == {"breaker": MOST}
    assert len(site.blocked()) == MOST


# Pace


@pytest.mark.slow
def test_until_a_day_is_remembered_a_rule_blocks_so_many_a_minute_and_forgets_nobody() -> None:
    site = Site(regulars=(), pace=1000)
    crowd = strangers(3500)
    assert site.detect(*crowd).outcomes == {"blocked": 1000, "pace": 2500}
    lengths = []
    for _ in range(5):
        site.beat()
        lengths.append(len(site.blocked()))
    assert lengths == [2000, 3000, 3500, 3500, 3500]
    assert (site.blocked(), site.notes()) == (set(crowd), 0)


def test_the_worst_of_those_who_wait_come_first_whenever_they_came() -> None:
    site = Site(regulars=(), pace=2)
    for id, counts in (("a", (11, 13, 15, 17)), ("b", (12, 14, 16, 18))):
        made = detection(*(f"192.0.2.{count}/32" for count in counts), id=id)
        offenders = tuple(
            offender.__class__(offender.network, count, offender.first_ms, offender.last_ms, offender.since_ms)
            for offender, count in zip(made.offenders, counts, strict=True)
        )
        made = Detection(**{**{f: getattr(made, f) for f in made.__struct_fields__}, "offenders": offenders})
        State(site.store).overwrite(made)
        site.enforce.run(stream_changes(made))
    order = [sorted(site.blocked())]
    for _ in range(3):
        site.beat()
        order.append(sorted(site.blocked() - {name for names in order for name in names}))
    blocked_in_turn = [[int(name.removesuffix("/32").rpartition(".")[2]) for name in names] for names in order]
    assert blocked_in_turn == [[15, 17], [16, 18], [13, 14], [11, 12]]


def test_a_rule_whose_pace_is_used_up_does_not_hold_up_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enforce, "OFFENDERS_PER_SLICE", 10)
    site = Site(regulars=(), pace=5)
    site.detect(*strangers(100), rule="burst")
    site.rules = parse_rules(
        "".join(f'[[rule]]\nname = "{name}"\nlimit = 10\nwindow = "5s"\naction = "block"\n' for name in ("burst", "z"))
    )
    site.detect(*(f"198.51.100.{host}/32" for host in range(10)), rule="z")
    site.beat()
    assert Counter(block.rule for block in site.store.blocks().values()) == {"burst": 10, "z": 10}


@pytest.mark.slow
def test_an_attack_that_goes_on_costs_one_note_per_detection_once() -> None:
    site = Site(regulars=(), pace=1)
    for _ in range(5):
        site.detect(*strangers(3000))
        site.clock.now += 1
    assert site.notes() == 3


def test_memory_comes_to_the_aid_of_those_who_wait() -> None:
    site = Site(regulars=(), pace=1)
    remember(site.store, REGULARS, NOW, days_ago=1 - 30 / 86400)
    site.detect(*strangers(100))
    site.deploy()
    site.beat()
    assert len(site.blocked()) == 100, "a day is remembered now, and they are strangers"


# Resuming


def test_a_rule_is_resumed_when_it_is_plausible_and_then_blocks_the_strangers_that_wait(site: Site) -> None:
    site.detect(*REGULARS[:100], *strangers(50))
    for _ in range(9):
        assert (site.beat().resumed, site.blocked()) == ([], set())
    report = site.beat()
    assert [breaker.rule for breaker in report.resumed] == ["burst"]
    assert report.outcomes == {"blocked": 50, "spared": 100}
    assert site.blocked() == set(strangers(50))
    assert (site.notes(), site.stopped(), site.beat().outcomes) == (0, [], {})


@pytest.mark.slow
def test_a_rule_that_goes_on_hitting_known_clients_stays_stopped(site: Site) -> None:
    for minute in range(60):
        site.detect(*REGULARS[30 * minute : 30 * minute + 60])
        site.beat()
    assert site.stopped() == ["burst"]
    assert len(site.blocked()) <= MOST


@pytest.mark.parametrize("reset", ["one rule", "all rules"])
def test_after_a_reset_all_who_wait_are_blocked(site: Site, reset: str) -> None:
    site.detect(*REGULARS[:100], *strangers(50))
    site.clock.now += 3600 * 5
    until = int(site.clock.now) + 600
    if reset == "one rule":
        write = reset_rule(State(site.store), "burst", at=int(site.clock.now), ignore_until=until, by="alice")
        State(site.store).write([write])
    else:
        State(site.store).overwrite(Breaker(at=int(site.clock.now), ignore_until=until))
    assert site.beat().outcomes == {"blocked": 150}
    assert len(site.blocked()) == 150
    assert min(block.until for block in site.store.blocks().values()) > site.clock.now, "from the moment of the block"


@pytest.mark.parametrize(
    "rules",
    [
        '[[rule]]\nname = "burst"\nlimit = 100\nwindow = "5s"\naction = "block"\n',
        '[[rule]]\nname = "burst"\nlimit = 10\nwindow = "5s"\naction = "count"\n',
        '[[rule]]\nname = "other"\nlimit = 10\nwindow = "5s"\naction = "block"\n',
    ],
    ids=["its limit was raised", "it only counts now", "it was removed"],
)
def test_a_rule_that_was_corrected_blocks_nobody_for_what_it_used_to_say(site: Site, rules: str) -> None:
    site.detect(*REGULARS[:100], *strangers(50))
    site.rules = parse_rules(rules)
    for _ in range(12):
        site.beat()
    assert (site.blocked(), site.notes(), site.stopped()) == (set(), 0, [])


def test_those_who_wait_are_kept_while_the_rules_cannot_be_read(site: Site) -> None:
    site.detect(*strangers(50), *REGULARS[:100])
    site.rules, site.problem = RuleSet(()), "no rule set is stored"
    site.beat(WINDOW_S)
    assert (site.notes(), site.stopped()) == (1, ["burst"])
    site.rules, site.problem = RULES, None
    site.beat()
    assert site.blocked() == set(strangers(50))


def test_those_who_wait_are_kept_during_a_pause(site: Site) -> None:
    site.detect(*strangers(50), *REGULARS[:100])
    site.store.put(Pause(paused=True), Pause.id)
    assert site.beat(WINDOW_S).outcomes == {}
    site.store.put(Pause(), Pause.id)
    assert site.beat().outcomes == {"blocked": 50, "spared": 100}


def test_those_who_wait_are_kept_if_a_pause_begins_while_they_are_decided_about(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(enforce, "OFFENDERS_PER_SLICE", 10)
    site = Site(regulars=(), pace=1)
    site.detect(*strangers(40))
    State(site.store).overwrite(Breaker(at=NOW, ignore_until=NOW + 3600))
    site.store.meddle = lambda: site.store.put(Pause(paused=True), Pause.id)
    site.beat()
    assert (len(site.blocked()), site.notes()) == (10, 1)
    site.store.put(Pause(), Pause.id)
    site.beat()
    assert (len(site.blocked()), site.notes()) == (40, 0)


def test_those_who_wait_are_kept_when_a_resumed_rule_is_stopped_again(site: Site) -> None:
    site.detect(*REGULARS[:100], *strangers(50))
    State(site.store).overwrite(Breaker(at=NOW + 30, ignore_until=0))
    report = site.beat()
    assert (report.outcomes, [breaker.rule for breaker in report.stopped]) == ({"breaker": 150}, ["burst"])
    assert (site.notes(), site.stopped()) == (1, ["burst"])
    (note,) = State(site.store).records(Waiting)
    assert note.since == NOW, "they have waited since"


@pytest.mark.slow
def test_a_beat_that_fails_halfway_loses_nobody(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.pace = 100_000
    site.store = Store()
    site.deploy()
    site.pace = 1
    crowd = strangers(3 * OFFENDERS_PER_SLICE)
    site.enforce._breakers._limits = Limits(share=2, pace=1)
    site.detect(*crowd)
    assert len(site.blocked()) == 1
    site.enforce._breakers._limits = Limits(share=2, pace=100_000)
    write = site.store.write

    def failing(writes: object) -> None:
        if len(site.blocked()) > OFFENDERS_PER_SLICE + 100:
            raise Unavailable("the state table")
        write(writes)  # type: ignore[arg-type]

    monkeypatch.setattr(site.store, "write", failing)
    with pytest.raises(Unavailable):
        site.beat()
    monkeypatch.setattr(site.store, "write", write)
    site.beat()
    assert (site.blocked(), site.notes()) == (set(crowd), 0)


@pytest.mark.slow
def test_more_than_one_beat_can_carry_is_carried_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "DETECTIONS_DUE", 2)
    monkeypatch.setattr(enforce, "SLICES_RESUMED", 1)
    site = Site(regulars=(), pace=1)
    crowd = strangers(5000)
    site.detect(*crowd)
    State(site.store).overwrite(Breaker(at=NOW, ignore_until=NOW + 3600))
    counts = []
    for _ in range(6):
        site.beat()
        counts.append(len(site.blocked()))
    assert counts == sorted(counts)
    assert counts[-1] == 5000
    assert counts[0] < 2000


def mixed(site: Site, crowd: list[str], detections: int) -> list[Detection]:
    """Delivers several detections of a crowd, each with offenders of all degrees."""
    made = []
    for part in range(detections):
        alike = detection(*crowd[part::detections], at=int(site.clock.now), id=f"log/{part}/burst")
        offenders = tuple(replace(each, count=11 + number) for number, each in enumerate(alike.offenders))
        made.append(replace(alike, offenders=offenders))
    State(site.store).overwrite(*made)
    site.enforce.run(stream_changes(*made))
    return made


def test_those_who_wait_have_their_turn_though_worse_ones_are_in_each_detection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who has been decided about is not decided about again each minute, at the expense of the others."""
    monkeypatch.setattr(enforce, "OFFENDERS_PER_SLICE", 10)
    monkeypatch.setattr(enforce, "SLICES_RESUMED", 2)
    site = Site(regulars=(), pace=1)
    crowd = strangers(200)
    mixed(site, crowd, 4)
    State(site.store).overwrite(Breaker(at=NOW, ignore_until=NOW + 36000))
    counts = []
    for _ in range(12):
        site.deploy()
        site.beat()
        counts.append(len(site.blocked()))
    assert counts[:3] == [21, 41, 61]
    assert (site.blocked(), site.notes()) == (set(crowd), 0)


@pytest.mark.slow
@given(
    detections=st.lists(
        st.tuples(st.sampled_from(["a", "b"]), st.dictionaries(st.integers(0, 40), st.integers(11, 30), min_size=1)),
        min_size=1,
        max_size=8,
    ),
    pace=st.integers(1, 20),
    at_once=st.integers(1, 3),
    cold=st.sets(st.integers(0, 99)),
)
def test_whoever_waits_is_decided_about_in_the_end(
    detections: list[tuple[str, dict[int, int]]], pace: int, at_once: int, cold: set[int]
) -> None:
    """Whatever stands in the same detections, with few of them at once, and with containers that come and go."""
    site = Site(regulars=(), pace=pace)
    site.rules = parse_rules(
        "".join(f'[[rule]]\nname = "{rule}"\nlimit = 10\nwindow = "5s"\naction = "block"\n' for rule in "ab")
    )
    crowd, offended = strangers(41), set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waiting, "DETECTIONS_DUE", at_once)
        patch.setattr(waiting, "NOTES_PER_RULE", at_once)
        patch.setattr(enforce, "OFFENDERS_PER_SLICE", 41)  # as many as a detection has, as it is
        patch.setattr(enforce, "SLICES_RESUMED", 1)
        for number, (rule, counts) in enumerate(detections):
            alike = detection(*(crowd[each] for each in counts), of=terms(rule), id=f"log/{number}/{rule}")
            offenders = zip(alike.offenders, counts.values(), strict=True)
            made = replace(alike, offenders=tuple(replace(each, count=count) for each, count in offenders))
            State(site.store).overwrite(made)
            site.enforce.run(stream_changes(made))
            offended |= {(rule, each.network) for each in made.offenders}
        for minute in range(100):
            if minute in cold:
                site.deploy()
            site.beat()
    histories = State(site.store).records(History)
    assert {(rule, history.network) for history in histories for rule in history.rules} == offended
    assert site.notes() == 0


def test_one_that_was_decided_about_waits_again_if_it_offends_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its detection is still noted for the sake of others, but not for it."""
    monkeypatch.setattr(enforce, "OFFENDERS_PER_SLICE", 10)
    monkeypatch.setattr(enforce, "SLICES_RESUMED", 1)
    site = Site(regulars=(), pace=1)
    crowd = strangers(40)
    (first,) = mixed(site, crowd, 1)
    site.beat()
    blocked = site.blocked()
    again = max((each for each in first.offenders if each.network in blocked), key=lambda each: each.count)
    site.clock.now = site.store.blocks()[again.network].until + 5
    report = site.detect("10.0.0.1/32", again.network)
    assert report.outcomes == {"blocked": 1, "pace": 1}
    assert site.notes() == 2
    for _ in range(50):
        site.beat()
    assert site.store.blocks()[again.network].in_force(int(site.clock.now))
    assert site.notes() == 0


def test_an_expired_detection_is_forgotten(site: Site) -> None:
    site.detect(*REGULARS[:100])
    for item in list(site.store.query(Detection.kind)):
        site.store._items[Detection.kind].pop(item.id)
    site.store._order.clear()
    site.beat(WINDOW_S)
    assert site.notes() == 0


def test_a_record_of_the_memory_that_cannot_be_read_is_left_out(site: Site) -> None:
    (item,) = site.store.query(Known.kind)
    remember(site.store, REGULARS[:100], NOW, days_ago=1.5)
    site.store.put_over([item.__class__(kind=item.kind, id=item.id, body=b"{", version=1)])
    assert site.detect(*REGULARS[100:200]).outcomes == {"blocked": 100}
    assert site.detect(*REGULARS[:3]).outcomes == {"breaker": 3}
