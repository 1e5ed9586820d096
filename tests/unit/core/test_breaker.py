"""The breaker of a rule: it stops a rule that would hit known clients, and never because of strangers."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from chalicelib.core.addresses import parse_network
from chalicelib.core.breaker import (
    EXAMPLES,
    FEWEST_HIT,
    MOST_NOTED,
    RENEWED_S,
    WINDOW_S,
    Candidate,
    Judgement,
    Limits,
    after_reset,
    calmed,
    judge,
    judge_superseded,
    reset_at,
    under_terms,
)
from chalicelib.core.known_clients import Digest, KnownClients, mark_of
from chalicelib.core.state.breakers import Breaker, RuleBreaker

NOW = 1_760_000_000
LIMITS = Limits(share=2, pace=100)
REGULARS = 2000
KNOWN = KnownClients(Digest().plus(number.to_bytes(4, "big") for number in range(0xCB007100, 0xCB007100 + REGULARS)))
MOST = 40
"""2 % of the regulars."""
RULE = under_terms(RuleBreaker(rule="burst"), 10, 5, 3)


def regular(number: int, excess: float = 2) -> Candidate:
    network = parse_network(f"203.0.{113 + number // 256}.{number % 256}")
    return Candidate(str(network), excess, tuple(KNOWN.within(network)))


def stranger(number: int, excess: float = 2) -> Candidate:
    return Candidate(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}/32", excess)


def regulars(*numbers: int) -> list[Candidate]:
    return list(map(regular, numbers))


def networks(candidates: Iterable[Candidate]) -> set[str]:
    return {candidate.network for candidate in candidates}


def stopped(numbers: Iterable[int] = range(REGULARS), now: int = NOW) -> RuleBreaker:
    judgement = judge(RULE, regulars(*numbers), KNOWN, LIMITS, now)
    assert judgement.stopped
    return judgement.breaker


# Known clients


def test_strangers_never_stop_a_rule_however_many_they_are() -> None:
    judgement = judge(RULE, [stranger(number) for number in range(50_000)], KNOWN, LIMITS, NOW)
    assert (judgement.stopped, judgement.waiting, judgement.breaker) == (False, frozenset(), RULE)


def test_a_rule_that_would_hit_more_than_its_share_is_stopped_before_it_blocks_anybody() -> None:
    candidates = [*regulars(*range(MOST + 1)), *(stranger(number) for number in range(100))]
    judgement = judge(RULE, candidates, KNOWN, LIMITS, NOW)
    assert judgement.stopped
    assert judgement.waiting == networks(candidates)
    breaker = judgement.breaker
    assert (breaker.stopped_at, breaker.would_hit, breaker.known) == (NOW, MOST + 1, REGULARS)


def test_a_rule_may_hit_its_share() -> None:
    judgement = judge(RULE, regulars(*range(MOST)), KNOWN, LIMITS, NOW)
    assert (judgement.stopped, judgement.waiting) == (False, frozenset())
    again = judge(judgement.breaker, regulars(*range(MOST)), KNOWN, LIMITS, NOW + 1)
    assert (again.stopped, again.breaker) == (False, judgement.breaker)


def test_a_stopped_rule_names_those_it_would_have_hit_the_worst_first() -> None:
    candidates = [*(regular(number, excess=number) for number in range(100)), stranger(1, excess=1000)]
    breaker = judge(RULE, candidates, KNOWN, LIMITS, NOW).breaker
    assert breaker.clients == tuple(f"203.0.113.{number}/32" for number in range(99, 99 - EXAMPLES, -1))


def test_a_stopped_rule_makes_all_wait() -> None:
    judgement = judge(stopped(), [stranger(1), regular(7)], KNOWN, LIMITS, NOW + 1)
    assert (judgement.stopped, len(judgement.waiting)) == (False, 2)


def test_hits_are_added_up_over_ten_minutes() -> None:
    breaker = judge(RULE, regulars(*range(MOST)), KNOWN, LIMITS, NOW).breaker
    assert judge(breaker, regulars(MOST), KNOWN, LIMITS, NOW + WINDOW_S - 1).stopped
    assert not judge(breaker, regulars(MOST), KNOWN, LIMITS, NOW + WINDOW_S).stopped


def test_all_networks_of_one_48_are_one_known_client() -> None:
    """So nobody stops a rule with the addresses of one machine, even if it came before."""
    known = KnownClients(
        Digest().plus([bytes.fromhex("20010db80007" + "00" * 10), *(b"\1\2" + bytes([n, 0]) for n in range(250))])
    )
    many = [parse_network(f"2001:db8:7:{number:x}::/64") for number in range(4096)]
    candidates = [Candidate(str(network), 2, tuple(known.within(network))) for network in many]
    judgement = judge(RULE, candidates, known, LIMITS, NOW)
    assert (judgement.stopped, len(judgement.breaker.hits)) == (False, 1)


def test_a_wide_network_hits_all_known_clients_in_it() -> None:
    network = parse_network("203.0.113.0/24")
    candidate = Candidate(str(network), 2, tuple(KNOWN.within(network)))
    assert judge(RULE, [candidate], KNOWN, LIMITS, NOW).stopped


def test_a_rule_may_hit_two_clients_where_a_share_is_less_than_one() -> None:
    known = KnownClients(Digest().plus(bytes([192, 0, 2, host]) for host in range(10)))
    hits = [Candidate(f"192.0.2.{host}/32", 2, (bytes([192, 0, 2, host]),)) for host in range(FEWEST_HIT + 1)]
    assert not judge(RULE, hits[:-1], known, LIMITS, NOW).stopped
    assert judge(RULE, hits, known, LIMITS, NOW).stopped


def test_a_share_of_all_never_stops_a_rule() -> None:
    assert not judge(RULE, regulars(*range(REGULARS)), KNOWN, Limits(share=100, pace=1), NOW).stopped


def test_what_is_stored_of_a_stopped_rule_is_bounded_and_seldom_changes() -> None:
    breaker = stopped()
    assert len(breaker.hits) == MOST + 1
    assert judge(breaker, regulars(*range(REGULARS)), KNOWN, LIMITS, NOW + RENEWED_S - 1).breaker == breaker
    assert len(judge(breaker, regulars(*range(REGULARS)), KNOWN, LIMITS, NOW + RENEWED_S).breaker.hits) == MOST + 1


@given(
    st.lists(
        st.tuples(
            st.integers(1, 300), st.lists(st.integers(0, 30), max_size=6), st.lists(st.integers(0, 9), max_size=3)
        ),
        max_size=12,
    )
)
def test_a_rule_is_stopped_exactly_when_it_would_hit_too_many(
    batches: list[tuple[int, list[int], list[int]]],
) -> None:
    """Against an oracle that remembers every hit."""
    limits, most = Limits(share=0.5, pace=1), 10
    breaker, now = RULE, NOW
    seen: dict[int, int] = {}
    for pause, hit, strangers in batches:
        now += pause
        candidates = [*regulars(*hit), *map(stranger, strangers)]
        judgement = judge(breaker, candidates, KNOWN, limits, now)
        recent = {number for number, time in seen.items() if time > now - WINDOW_S}
        for number in hit:
            if number not in recent or now - seen[number] >= RENEWED_S:
                seen[number] = now
        too_many = len({number for number, time in seen.items() if time > now - WINDOW_S}) > most
        assert judgement.stopped == too_many
        assert judgement.waiting == (networks(candidates) if too_many else set())
        if too_many:
            return
        breaker = judgement.breaker


# Resuming


def test_a_stopped_rule_is_resumed_once_its_offenders_of_ten_minutes_are_half_of_the_share() -> None:
    breaker = stopped()
    assert calmed(breaker, KNOWN, LIMITS, NOW + WINDOW_S - 1) == breaker
    closed = calmed(breaker, KNOWN, LIMITS, NOW + WINDOW_S)
    assert (closed.stopped_at, closed.hits, closed.spared_until) == (0, {}, NOW + WINDOW_S)
    for offending, resumed in ((MOST // 2, True), (MOST // 2 + 1, False)):
        still = judge(breaker, regulars(*range(offending)), KNOWN, LIMITS, NOW + 300).breaker
        assert (calmed(still, KNOWN, LIMITS, NOW + WINDOW_S).stopped_at == 0) is resumed


def test_a_rule_that_goes_on_hitting_known_clients_stays_stopped() -> None:
    breaker = stopped()
    for minute in range(1, 120):
        breaker = judge(
            breaker, regulars(*range(10 * minute, 10 * minute + 10)), KNOWN, LIMITS, NOW + 60 * minute
        ).breaker
        assert calmed(breaker, KNOWN, LIMITS, NOW + 60 * minute) == breaker


def test_a_stopped_rule_keeps_the_latest_of_its_hits() -> None:
    later = NOW + RENEWED_S
    hits = judge(stopped(range(100)), regulars(*range(500, 510)), KNOWN, LIMITS, later).breaker.hits
    assert len(hits) == MOST + 1
    assert {mark for mark, time in hits.items() if time == later} == {
        mark.hex() for candidate in regulars(*range(500, 510)) for mark in candidate.hits
    }


def test_a_rule_that_was_not_stopped_is_not_resumed() -> None:
    assert calmed(RULE, KNOWN, LIMITS, NOW) == RULE


def test_another_limit_is_judged_anew() -> None:
    breaker = stopped()
    assert under_terms(breaker, 10, 5, 4).stopped_at == NOW
    assert under_terms(breaker, 100, 5, 4) == RuleBreaker(rule="burst", limit=100, window_s=5, rule_set=4)
    quiet = reset_at(breaker, at=NOW, ignore_until=NOW + 600, by="alice")
    assert under_terms(quiet, 100, 5, 4).ignore_until == NOW + 600


def test_an_earlier_version_restarts_no_rule() -> None:
    breaker = under_terms(stopped(), 10, 5, 7)
    assert under_terms(breaker, 100, 5, 6) is breaker
    assert under_terms(breaker, 0, 0, 6) is breaker
    assert under_terms(breaker, 100, 5, 8).stopped_at == 0


def test_an_earlier_version_blocks_within_the_share_and_stops_nothing() -> None:
    few = judge_superseded(RULE, regulars(*range(MOST)), KNOWN, LIMITS, NOW)
    assert (len(few.breaker.hits), few.waiting) == (MOST, frozenset())
    many = [*regulars(*range(MOST + 1)), stranger(1)]
    assert judge_superseded(RULE, many, KNOWN, LIMITS, NOW) == Judgement(RULE, frozenset(networks(many)))
    assert judge_superseded(stopped(), [stranger(1)], KNOWN, LIMITS, NOW).waiting == {stranger(1).network}


def test_a_reset_resumes_a_rule_and_keeps_it_going_for_a_time() -> None:
    breaker = reset_at(stopped(), at=NOW + 5, ignore_until=NOW + 605, by="alice")
    everybody = regulars(*range(REGULARS))
    assert judge(breaker, everybody, KNOWN, LIMITS, NOW + 604) == Judgement(breaker, frozenset())
    assert judge(breaker, everybody, KNOWN, LIMITS, NOW + 605).stopped


def test_a_reset_forgets_the_clients_hit_so_far_and_who_was_to_be_spared() -> None:
    before = replace(stopped(), hits={"older": NOW + 4, "same": NOW + 5, "newer": NOW + 6}, spared_until=NOW)
    after = reset_at(before, at=NOW + 5, ignore_until=NOW + 605, by="alice")
    assert (after.stopped_at, after.hits, after.spared_until) == (0, {"newer": NOW + 6}, 0)
    assert (after.reset_at, after.ignore_until, after.by) == (NOW + 5, NOW + 605, "alice")


def test_a_reset_of_all_rules_counts_for_those_stopped_before() -> None:
    reset = Breaker(at=NOW + 5, ignore_until=NOW + 605, by="alice")
    assert after_reset(stopped(), reset) == reset_at(stopped(), at=NOW + 5, ignore_until=NOW + 605, by="alice")
    later = stopped(now=NOW + 6)
    assert after_reset(later, reset) == later
    assert after_reset(RULE, Breaker()) == RULE


def test_a_breaker_that_an_earlier_version_opened_is_no_reset() -> None:
    assert after_reset(stopped(), Breaker(open=True, at=NOW + 5, would_block=2000)) == stopped()


# Pace


def test_while_nobody_is_known_a_rule_blocks_so_many_a_minute_the_worst_first() -> None:
    candidates = [stranger(number, excess=number) for number in range(250)]
    judgement = judge(RULE, candidates, None, LIMITS, NOW)
    assert judgement.waiting == networks(candidates[:150])
    assert not judgement.stopped
    rest = [candidate for candidate in candidates if candidate.network in judgement.waiting]
    assert len(judge(judgement.breaker, rest, None, LIMITS, NOW // 60 * 60 + 59).waiting) == 150
    following = judge(judgement.breaker, rest, None, LIMITS, NOW // 60 * 60 + 60)
    assert following.waiting == networks(candidates[:50])


def test_one_48_takes_one_place_of_the_pace_of_a_minute_however_many_detections_it_is_in() -> None:
    breaker = RULE
    for number in range(3):
        candidate = Candidate(f"2001:db8:0:{number:x}::/64", excess=2)
        breaker = judge(breaker, [candidate], None, LIMITS, NOW + number).breaker
    assert breaker.paced == 1
    next_minute = judge(breaker, [Candidate("2001:db8:0:9::/64", excess=2)], None, LIMITS, NOW + 60).breaker
    assert next_minute.paced == 1
    assert judge(breaker, [stranger(1)], None, LIMITS, NOW + 60).breaker.paced_48s == ()


def test_one_48_takes_one_place_of_the_pace() -> None:
    many = [Candidate(f"2001:db8:7:{number:x}::/64", 9) for number in range(4096)]
    judgement = judge(RULE, [*many, *map(stranger, range(99))], None, LIMITS, NOW)
    assert (judgement.waiting, judgement.breaker.paced) == (frozenset(), 100)


@given(st.lists(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9)), max_size=10), max_size=8), st.integers(1, 9))
def test_the_pace_forgets_nobody(batches: list[list[tuple[int, int]]], pace: int) -> None:
    limits, breaker, now = Limits(share=2, pace=pace), RULE, NOW // 60 * 60
    queue: dict[str, Candidate] = {}
    done: set[str] = set()
    for batch in [*batches, *([[]] * 50)]:
        queue |= {c.network: c for number, excess in batch if (c := stranger(number, excess)).network not in done}
        judgement = judge(breaker, list(queue.values()), None, limits, now)
        blocked = queue.keys() - judgement.waiting
        assert len(blocked) == min(pace, len(queue))
        assert all(
            queue[name].excess >= max((queue[other].excess for other in judgement.waiting), default=0)
            for name in blocked
        )
        done |= blocked
        queue = {name: candidate for name, candidate in queue.items() if name in judgement.waiting}
        breaker, now = judgement.breaker, now + 60
    assert not queue


@pytest.mark.slow
def test_the_fullest_breaker_fits_into_an_item() -> None:
    """With settings that hardly limit a rule, and an attacker with a whole IPv6 /32."""
    wide = Limits(share=100, pace=1_000_000)
    crowd = [Candidate(f"2001:db8:{number:x}::/64", 2) for number in range(20_000)]
    breaker = judge(RULE, crowd, None, wide, NOW).breaker
    known = KnownClients(Digest().plus(parse_network(each.network).network_address.packed for each in crowd))
    crowd = [Candidate(each.network, 2, tuple(known.within(parse_network(each.network)))) for each in crowd]
    for batch in (crowd[:MOST_NOTED], crowd):
        breaker = judge(breaker, batch, known, wide, NOW).breaker
        assert len(breaker.to_json()) < 400_000
    assert breaker.stopped_at


def test_without_pace_after_a_reset() -> None:
    breaker = reset_at(RULE, at=NOW, ignore_until=NOW + 600, by="alice")
    assert judge(breaker, [stranger(number) for number in range(250)], None, LIMITS, NOW).waiting == frozenset()


def test_a_stopped_rule_waits_for_a_memory_that_is_gone_and_is_then_resumed() -> None:
    judgement = judge(stopped(), [stranger(1)], None, LIMITS, NOW + 1)
    assert judgement.waiting == {stranger(1).network}
    assert calmed(judgement.breaker, None, LIMITS, NOW + WINDOW_S).stopped_at == 0


@pytest.mark.parametrize(("share", "most"), [(2, 40), (0.01, FEWEST_HIT), (0.5, 10), (100, REGULARS)])
def test_the_share_is_a_percentage_of_the_known_clients(share: float, most: int) -> None:
    assert Limits(share=share, pace=1).most_hits(KNOWN) == most


def test_a_client_is_its_own_mark() -> None:
    assert KNOWN.within(parse_network("203.0.113.7")) == [mark_of(parse_network("203.0.113.7"))]
