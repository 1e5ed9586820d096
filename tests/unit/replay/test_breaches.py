"""Block periods follow from the outcomes of ``decide``, in order of time."""

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.core.allowance import Allowance
from chalicelib.core.buckets import Drain
from chalicelib.core.decisions import PROPAGATION_S
from chalicelib.core.logs.requests import Source
from chalicelib.core.rules import RuleSet
from chalicelib.core.state.allowlist import Allow
from chalicelib.core.windows import over_allowance
from sluice.analysis.summary import by_rule, offenders, result_json
from sluice.replay.breaches import Crossings, peak
from sluice.replay.engine import Options, Result, replay
from tests.support import replay_logs as logs
from tests.support.replay_logs import ME, S0, T0, Hit, every, rules_of


def replayed(rules: RuleSet, made: Sequence[Hit], **options: object) -> Result:
    (result,) = replay([logs.chunk(map(logs.realtime, made))], [rules], Options(**options))  # type: ignore[arg-type]
    return result


def periods(result: Result) -> dict[str, list[tuple[int, int, int]]]:
    """Returns start and end (seconds after T0) and number of the offence of each block, by rule."""
    return {o.rule.name: [(p.since - S0, p.until - S0, p.offence) for p in o.periods] for o in offenders(result)}


def test_a_block_begins_with_the_next_second_and_refuses_later_requests() -> None:
    # 0.1 s apart, the sixth request at 0.5 s is over; blocked from 1 s up to 11 s.
    rules = rules_of('name = "r"\nlimit = 5\nwindow = "1s"\nblock_for = "10s"')
    result = replayed(rules, [*every(0.1, 0, 0.7), *every(1, 1, 12)])
    (offender,) = offenders(result)
    assert periods(result) == {"r": [(1, 11, 1)]}
    assert offender.first_ms == T0 + 500
    assert offender.refused == 10
    assert offender.over == 3, "at 0.5 s, at 0.6 s, and at 1 s"
    assert offender.peak == 7
    assert offender.requests == 18
    (figures,) = by_rule(result, [offender])
    assert (figures.offenders, figures.blocked, figures.share) == (1, 1, 10 / 18)


def test_a_delay_postpones_a_block() -> None:
    rules = rules_of('name = "r"\nlimit = 5\nwindow = "1s"\nblock_for = "10s"')
    assert periods(replayed(rules, every(0.1, 0, 0.6), delay_s=4)) == {"r": [(5, 15, 1)]}


def test_each_further_offence_doubles_the_block() -> None:
    rules = rules_of(
        'name = "r"\nlimit = 5\nwindow = "1s"\nblock_for = "10s"\nescalate = { factor = 2, max = "30s", memory = "1m" }'
    )
    # The client never stops: after each block, six new requests exceed the limit again.
    assert periods(replayed(rules, every(0.1, 0, 70))) == {"r": [(1, 11, 1), (12, 32, 2), (33, 63, 3), (64, 94, 4)]}


def test_requests_made_while_blocked_extend_the_block_only_if_the_rule_extends() -> None:
    table = 'name = "r"\nlimit = 5\nwindow = "1s"\nblock_for = "10s"'
    assert periods(replayed(rules_of(table), every(0.1, 0, 5))) == {"r": [(1, 11, 1)]}
    assert periods(replayed(rules_of(table + "\nextend = true"), every(0.1, 0, 5))) == {"r": [(1, 16, 1)]}


def test_refusals_after_a_block_are_no_further_offence_while_they_may_be_of_that_block() -> None:
    rules = rules_of('name = "r"\nlimit = 5\nwindow = "1s"\nblock_for = "10s"')

    def blocks(again_s: float, status: str, **options: object) -> int:
        again = [replace(hit, status=status) for hit in every(0.1, again_s, again_s + 2)]
        return len(periods(replayed(rules, [*every(0.1, 0, 0.7), *again], **options))["r"])

    assert blocks(20, "429") == 1
    assert blocks(20, "200") == 2
    assert blocks(20, "503") == blocks(20, "429", block_status=503) == 2
    assert blocks(20, "503", block_status=503) == 1, "the status that the rule group was given"
    assert blocks(11 + PROPAGATION_S, "429") == 2, "an origin may answer so, too"


def test_a_rule_that_only_counts_shows_its_blocks_without_blocking() -> None:
    table = 'name = "{}"\nlimit = 5\nwindow = "1s"\nblock_for = "10s"\naction = "{}"'
    result = replayed(rules_of(table.format("a", "count"), table.format("b", "block")), every(0.1, 0, 5))
    assert periods(result) == {"a": [(1, 11, 1)], "b": [(1, 11, 1)]}


def test_a_request_in_the_second_that_a_block_ends_is_a_new_offence() -> None:
    for action in ("block", "count"):
        rules = rules_of(f'name = "r"\nlimit = 0\nwindow = "1s"\nblock_for = "10s"\naction = "{action}"')
        assert periods(replayed(rules, [Hit(T0, ME), Hit(T0 + 10_999, ME), Hit(T0 + 11_000, ME)])) == {
            "r": [(1, 11, 1), (12, 22, 2)]
        }


def test_an_offender_is_named_even_if_another_rule_blocked_first() -> None:
    rules = rules_of(
        'name = "fast"\nlimit = 5\nwindow = "1s"\nblock_for = "1h"', 'name = "slow"\nlimit = 20\nwindow = "10s"'
    )
    result = replayed(rules, every(0.1, 0, 5))
    assert periods(result) == {"fast": [(1, 3601, 1)], "slow": []}
    assert [(o["rule"], o["blocked_for_s"], o["peak"]) for o in result_json(result)["offenders"]] == [
        ("slow", 0, 50),
        ("fast", 3600, 10),
    ]


def test_the_block_of_a_network_covers_its_addresses() -> None:
    rules = rules_of(
        'name = "net"\nlimit = 5\nwindow = "1s"\naggregate = { ipv4 = 24 }', 'name = "one"\nlimit = 20\nwindow = "10s"'
    )
    result = replayed(rules, every(0.1, 0, 5))
    assert periods(result) == {"net": [(1, 601, 1)], "one": []}


def test_all_addresses_of_a_blocked_network_are_refused() -> None:
    rules = rules_of(
        'name = "net"\nlimit = 5\nwindow = "1s"\naggregate = { ipv4 = 24 }', 'name = "r"\nlimit = 99\nwindow = "1s"'
    )
    made = [*every(0.1, 0, 1), *every(0.5, 2, 4, "192.0.2.200"), *every(0.5, 2, 4, "192.0.3.1")]
    (offender,) = offenders(replayed(rules, made))
    assert offender.network == ip_network("192.0.2.0/24")
    assert offender.refused == 4


def test_an_allowlisted_address_of_a_blocked_network_is_not_refused() -> None:
    rules = rules_of(
        'name = "net"\nlimit = 5\nwindow = "1s"\naggregate = { ipv4 = 24 }', 'name = "r"\nlimit = 99\nwindow = "1s"'
    )
    made = [*every(0.1, 0, 1), *every(0.5, 2, 4, "192.0.2.200"), *every(0.5, 2, 4, "192.0.2.201")]
    (offender,) = offenders(replayed(rules, made, allowlist=(Allow(network="192.0.2.200/32"),)))
    assert (offender.network, offender.refused) == (ip_network("192.0.2.0/24"), 4)


def test_an_allowlisted_offender_is_named_but_not_blocked() -> None:
    rules = rules_of('name = "r"\nlimit = 5\nwindow = "1s"')
    result = replayed(rules, every(0.1, 0, 5), allowlist=(Allow(network="192.0.2.0/24"),))
    (offender,) = offenders(result)
    assert (offender.action, offender.periods, offender.refused) == ("allowlisted", (), 0)


def test_an_offender_that_is_exempt_from_one_rule_is_blocked_by_another() -> None:
    rules = rules_of('name = "r"\nlimit = 5\nwindow = "1s"', 'name = "s"\nlimit = 20\nwindow = "10s"')
    result = replayed(rules, every(0.1, 0, 5), allowlist=(Allow(network="192.0.2.0/24", rules=("r",)),))
    assert {offender.rule.name: offender.action for offender in offenders(result)} == {"r": "allowlisted", "s": "block"}


def test_an_offender_in_two_logs_is_named_once_with_the_figures_of_both() -> None:
    rules = rules_of('name = "r"\nlimit = 5\nwindow = "1s"\nblock_for = "10s"')
    early, late = every(0.1, 0, 0.6), every(0.05, 20, 20.5)
    for first, second in ((logs.waf, logs.realtime), (logs.realtime, logs.waf)):
        chunks = [logs.chunk(map(first, early)), logs.chunk(map(second, late))]
        (result,) = replay(chunks, [rules], Options())
        (offender,) = offenders(result)
        assert (offender.first_ms, offender.peak, offender.requests) == (T0 + 500, 10, 16)
        assert [(period.since - S0, period.offence) for period in offender.periods] == [(1, 1), (21, 2)]


def test_a_block_may_be_extended_by_requests_in_another_log() -> None:
    rules = rules_of('name = "r"\nlimit = 5\nwindow = "1s"\nblock_for = "10s"\nextend = true')
    early, late = every(0.1, 0, 0.6), every(0.1, 5, 5.6)
    for first, second in ((logs.waf, logs.realtime), (logs.realtime, logs.waf)):
        (result,) = replay([logs.chunk(map(first, early)), logs.chunk(map(second, late))], [rules], Options())
        assert periods(result) == {"r": [(1, 16, 1)]}


def test_a_sampled_log_is_scaled_up() -> None:
    rules = rules_of('name = "r"\nlimit = 50\nwindow = "1s"')
    (offender,) = offenders(replayed(rules, every(0.1, 0, 0.6), sample_rate=10))
    assert offender.peak == 60


def test_only_a_sampled_log_is_scaled_up() -> None:
    rules = rules_of('name = "r"\nlimit = 50\nwindow = "10s"\nblock_for = "10s"')
    made = every(0.1, 0, 2)
    chunks = [logs.chunk(map(log, made)) for log in (logs.realtime, logs.waf, logs.combined)]
    (result,) = replay(chunks, [rules], Options(sample_rate=20))
    (breach,) = result.breaches
    assert (breach.source, breach.peak, breach.requests) == (Source.CLOUDFRONT, 100, 100)
    assert periods(result) == {"r": [(2, 12, 1)]}


def test_refused_requests_are_scaled_up_by_the_log_that_tells_of_them() -> None:
    rules = rules_of('name = "r"\nlimit = 50\nwindow = "1s"\nblock_for = "10s"')
    flood = every(0.01, 0, 0.6)
    chunks = [logs.chunk(map(logs.waf, [*flood, *every(1, 2, 5)])), logs.chunk(map(logs.realtime, every(1, 2, 7)))]
    (result,) = replay(chunks, [rules], Options(sample_rate=10))
    assert [breach.refused for breach in result.breaches] == [3 + 50]


def test_a_rule_whose_limit_is_too_low_for_a_sampled_log_blocks_nobody() -> None:
    low = 'name = "low"\nlimit = 10\nwindow = "10s"\nblock_for = "1m"'
    high = 'name = "high"\nlimit = 40\nwindow = "10s"\nblock_for = "10s"'
    result = replayed(rules_of(low, high), every(0.1, 0, 3), sample_rate=50)
    # A block by the lower limit, from the first second on, would have covered the client when it exceeded the other.
    assert periods(result)["high"] == [(3, 13, 1)]


slots = st.dictionaries(st.integers(0, 60), st.integers(1, 4), min_size=1, max_size=30)


drains = st.one_of(st.none(), st.builds(Drain, st.integers(1, 4), st.integers(1, 6), st.integers(1, 9)))
allowances = st.builds(Allowance, st.integers(1, 20), st.integers(0, 12), drains)


@pytest.mark.slow
@given(slots, allowances)
@settings(max_examples=300, deadline=None)
def test_crossings_are_the_windows_that_lambda_finds(requests: dict[int, int], allowance: Allowance) -> None:
    # Lambda sees batches that end with each slot in turn.
    expected = []
    for last in sorted(requests):
        window = over_allowance({s: n for s, n in requests.items() if s <= last}, [last], allowance)
        if window is not None:
            expected.append(window)
    crossings = Crossings(requests, allowance)
    assert list(crossings) == expected
    highest = peak(requests, allowance)
    assert not crossings or crossings.highest().count == highest
    assert (highest > allowance.limit) == bool(expected)
    if allowance.drain is None:
        windows = [range(first, first + allowance.resolution) for first in requests]
        assert highest == max(sum(requests.get(slot, 0) for slot in window) for window in windows)


@given(
    slots=st.dictionaries(st.integers(0, 40), st.integers(1, 4), min_size=1, max_size=12),
    data=st.data(),
    limit=st.integers(0, 6),
    drain=drains,
)
def test_a_window_without_its_refusals_is_over_the_limit_if_what_was_served_is(
    slots: dict[int, int], data: st.DataObject, limit: int, drain: Drain | None
) -> None:
    allowance = Allowance(10, limit, drain)
    refused = {slot: data.draw(st.integers(0, number)) for slot, number in slots.items()}
    served = {slot: number - refused[slot] for slot, number in slots.items() if number > refused[slot]}
    crossings = Crossings(slots, allowance)
    for window in crossings:
        alone = {slot: number for slot, number in served.items() if window.last - 10 < slot <= window.last}
        expected = over_allowance(alone, [window.last], allowance) if window.last in alone else None
        assert crossings.served(window, refused) == expected
