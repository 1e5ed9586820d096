"""The breakers as they are stored: judged rule by rule, reset, and resumed."""

from collections.abc import Iterable
from unittest.mock import patch

import pytest
from msgspec.structs import replace

from chalicelib.core.breaker import Limits
from chalicelib.core.rules_toml import parse_rules
from chalicelib.core.state.breakers import Breaker, RuleBreaker
from chalicelib.core.state.detections import Offender
from chalicelib.pipeline.rule_breakers import KEPT_S, PlannedBlock, RuleBreakers, Verdict, reset_rule, stopped_rules
from chalicelib.pipeline.stored import State
from chalicelib.ports import Conflict
from tests.support.known import DAY, remember
from tests.support.state import NOW, RULES, Store, terms

REGULARS = [f"192.0.2.{host}/32" for host in range(200)]
STRANGERS = [f"198.51.100.{host}/32" for host in range(200)]
LIMITS = Limits(share=2, pace=100)
MOST = 4
"""2 % of the regulars."""
LATER = NOW + 700


@pytest.fixture
def store() -> Store:
    store = Store()
    remember(store, REGULARS, NOW)
    return store


def new_blocks(networks: Iterable[str], rule: str = "burst", *, familiar: bool = True) -> list[PlannedBlock]:
    return [PlannedBlock(terms(rule), Offender(network, 20, 0, 0, 0), familiar) for network in networks]


def of_version(version: int, limit: int, networks: Iterable[str]) -> list[PlannedBlock]:
    """Returns blocks by the rule as a version of the rule set has it."""
    of = replace(terms(), limit=limit, rule_set=str(version))
    return [block._replace(terms=of) for block in new_blocks(networks)]


def judge(store: Store, *blocks: PlannedBlock, now: int = NOW) -> Verdict:
    return RuleBreakers(State(store), LIMITS).judge(blocks, now)


def stop(store: Store, rule: str = "burst", now: int = NOW) -> None:
    assert judge(store, *new_blocks(REGULARS, rule), now=now).halted == {rule}


def stopped(store: Store) -> list[str]:
    return [breaker.rule for breaker in stopped_rules(State(store))]


def test_only_the_rule_that_would_hit_known_clients_is_stopped(store: Store) -> None:
    verdict = judge(store, *new_blocks(REGULARS, "wrong"), *new_blocks(STRANGERS, "right"))
    assert verdict.halted == {"wrong"}
    assert verdict.waiting == {("wrong", network) for network in REGULARS}
    assert [breaker.rule for breaker in verdict.stopped] == ["wrong"]
    assert stopped(store) == ["wrong"]
    again = judge(store, *new_blocks(STRANGERS[:1], "wrong"), now=NOW + 1)
    assert again.waiting == {("wrong", STRANGERS[0])}
    assert (set(again.halted), again.stopped) == ({"wrong"}, ())


def test_those_who_were_blocked_before_do_not_count_as_known(store: Store) -> None:
    assert judge(store, *new_blocks(REGULARS, familiar=False)) == Verdict()


def test_hits_are_stored_before_the_blocks_and_only_if_there_are_any(store: Store) -> None:
    judge(store, *new_blocks(STRANGERS))
    judge(store, *new_blocks(REGULARS[:MOST]))
    judge(store, *new_blocks(REGULARS[:MOST]), *new_blocks(STRANGERS))
    judge(store, *new_blocks(STRANGERS))
    assert len(store.writes) == 1
    assert judge(store, *new_blocks(REGULARS[MOST : MOST + 1])).halted
    (item,) = store.query(RuleBreaker.kind)
    assert item.expires_at == NOW + KEPT_S


def test_the_faster_of_two_containers_is_right(store: Store) -> None:
    store.meddle = lambda: judge(store, *new_blocks(REGULARS[:MOST]))
    with pytest.raises(Conflict):
        judge(store, *new_blocks(REGULARS[MOST:]))
    assert judge(store, *new_blocks(REGULARS[MOST:])).halted


def test_pace_stands_in_until_a_day_is_remembered() -> None:
    store = Store()
    remember(store, REGULARS, NOW, days_ago=0.9)
    verdict = judge(store, *new_blocks(REGULARS))
    assert (verdict.halted, len(verdict.waiting)) == (frozenset(), 100)
    verdict = judge(store, *new_blocks(REGULARS), now=NOW + DAY // 10)
    assert verdict.halted == {"burst"}


def test_containers_with_two_versions_of_a_rule_do_not_restart_it_by_turns(store: Store) -> None:
    judge(store, *of_version(8, 20, REGULARS[:MOST]))
    for number in range(MOST, 30, 2):
        judge(store, *of_version(7, 10, REGULARS[number : number + 1]))
        judge(store, *of_version(8, 20, REGULARS[number + 1 : number + 2]))
    assert stopped(store) == ["burst"]
    assert judge(store, *of_version(7, 10, STRANGERS)).halted
    assert stopped(store) == ["burst"]
    assert not judge(store, *of_version(9, 10, STRANGERS)).waiting, "a later version is judged from the start"


@pytest.mark.parametrize("apart", [False, True], ids=["in one batch", "in two batches"])
def test_a_rule_that_was_mended_is_not_stopped_by_what_is_still_detected_under_the_wrong_one(
    store: Store, apart: bool
) -> None:
    stale, present = of_version(7, 1, REGULARS), of_version(8, 100, [*STRANGERS[:1], *REGULARS[:1]])
    # In one batch, clients of either version.
    stale = [block for block in stale if block.offender.network != REGULARS[0]]
    if apart:
        assert not judge(store, *present).waiting
        verdict = judge(store, *stale)
    else:
        verdict = judge(store, *stale, *present)
    assert verdict.waiting == {("burst", block.offender.network) for block in stale}
    assert (verdict.stopped, stopped(store)) == ((), [])


def test_a_container_that_has_not_read_the_new_rules_resumes_nothing(store: Store) -> None:
    assert judge(store, *of_version(8, 10, REGULARS)).halted
    raised = '[[rule]]\nname = "burst"\nlimit = 100\nwindow = "5s"\n'
    for version, expected in (("7", []), ("9", ["burst"])):
        breakers = RuleBreakers(State(store), LIMITS).resume(parse_rules(raised, version=version), NOW + 1)
        assert [breaker.rule for breaker in breakers.resumed] == expected


def test_a_reset_of_one_rule_leaves_the_others_stopped(store: Store) -> None:
    stop(store, "a")
    stop(store, "b")
    State(store).write([reset_rule(State(store), "a", at=NOW + 5, ignore_until=NOW + 600, by="alice")])
    assert stopped(store) == ["b"]
    assert judge(store, *new_blocks(REGULARS, "a"), now=NOW + 6) == Verdict()


def test_a_reset_of_all_rules_resumes_every_rule(store: Store) -> None:
    stop(store, "a")
    stop(store, "b")
    State(store).overwrite(Breaker(at=NOW + 5, ignore_until=NOW + 600, by="alice"))
    assert stopped(store) == []
    assert not judge(store, *new_blocks(REGULARS, "a"), now=NOW + 6).waiting
    assert judge(store, *new_blocks(REGULARS, "b"), now=NOW + 600).halted


def test_clients_hit_while_a_reset_of_all_rules_is_heeded_do_not_count_afterwards(store: Store) -> None:
    judge(store, *new_blocks(REGULARS[:1]))
    State(store).overwrite(Breaker(at=NOW + 5, ignore_until=NOW + 300, by="alice"))
    judge(store, *new_blocks(REGULARS[1:MOST]), now=NOW + 299)
    assert not judge(store, *new_blocks(REGULARS[MOST : 2 * MOST]), now=NOW + 300).halted
    assert judge(store, *new_blocks(REGULARS[: MOST + 1]), now=NOW + 300).halted


def test_a_later_reset_of_all_rules_ends_the_quiet_time_of_one(store: Store) -> None:
    State(store).write([reset_rule(State(store), "burst", at=NOW, ignore_until=NOW + 3600, by="alice")])
    assert not judge(store, *new_blocks(REGULARS), now=NOW + 1).halted
    State(store).overwrite(Breaker(at=NOW + 5, ignore_until=NOW + 5, by="bob"))
    assert judge(store, *new_blocks(REGULARS), now=NOW + 6).halted == {"burst"}


def test_strangers_are_judged_with_one_read(store: Store) -> None:
    judge(store, *new_blocks(REGULARS[:1]))
    breakers = RuleBreakers(State(store), LIMITS)
    breakers.judge(new_blocks(STRANGERS[:1]), NOW)
    with patch.object(store, "get", side_effect=AssertionError("read")):
        assert breakers.judge(new_blocks(STRANGERS[1:]), NOW) == Verdict()


def resumed(store: Store, rules: str = "", now: int = LATER) -> list[str]:
    breakers = RuleBreakers(State(store), LIMITS).resume(parse_rules(rules) if rules else RULES, now)
    return [breaker.rule for breaker in breakers.resumed]


def test_a_rule_is_resumed_once_and_only_when_it_is_plausible(store: Store) -> None:
    stop(store)
    assert resumed(store, now=NOW + 60) == []
    assert stopped(store) == ["burst"]
    assert resumed(store) == ["burst"]
    assert (resumed(store), stopped(store)) == ([], [])


@pytest.mark.parametrize(
    "rules",
    ['[[rule]]\nname = "burst"\nlimit = 100\nwindow = "5s"\n', '[[rule]]\nname = "other"\nlimit = 10\nwindow = "5s"\n'],
    ids=["its limit was raised", "it was removed"],
)
def test_a_rule_that_was_changed_is_resumed_at_once(store: Store, rules: str) -> None:
    stop(store)
    assert resumed(store, rules, now=NOW + 1) == ["burst"]
    assert stopped(store) == []


def test_a_conflict_leaves_a_rule_stopped_until_the_next_minute(store: Store) -> None:
    stop(store)
    store.lost = 1
    assert resumed(store) == []
    assert resumed(store) == ["burst"]
