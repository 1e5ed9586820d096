"""What replay says of blocks is what ``decide`` says, told in the order of time."""

from collections.abc import Sequence
from ipaddress import ip_network

from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.core.rules import RuleSet, parse_rules
from chalicelib.core.windows import over_limit
from sluice.analysis.summary import by_rule, offenders, result_json
from sluice.replay.engine import Options, Result, replay
from sluice.replay.verdicts import crossings, peak
from tests.support import replay_logs as logs
from tests.support.replay_logs import T0, Hit

S0 = T0 // 1000
ME = "192.0.2.1"


def rules_of(*tables: str) -> RuleSet:
    return parse_rules("\n".join(f"[[rule]]\n{table}" for table in tables))


def tried(rules: RuleSet, made: Sequence[Hit], **options: object) -> Result:
    (result,) = replay([logs.block(map(logs.realtime, made))], [rules], Options(**options))  # type: ignore[arg-type]
    return result


def every(seconds: float, start: float, end: float, client: str = ME, path: str = "/") -> list[Hit]:
    """A request each ``seconds`` from ``start`` (inclusive) to ``end`` (exclusive), in seconds after T0."""
    steps = round((end - start) / seconds)
    return [Hit(T0 + round((start + seconds * n) * 1000), client, path=path) for n in range(steps)]


def stays(result: Result) -> dict[str, list[tuple[int, int, int]]]:
    """By rule: from, until (seconds after T0), number of the offence."""
    return {o.rule.name: [(s.since - S0, s.until - S0, s.offence) for s in o.stays] for o in offenders(result)}


def test_a_block_begins_with_the_next_second_and_refuses_what_comes_in_it() -> None:
    # 0.1 s apart, the sixth request at 0.5 s is over; blocked from 1 s up to 11 s.
    rules = rules_of('name = "r"\nlimit = 5\nwindow = "1s"\nblock_for = "10s"')
    result = tried(rules, [*every(0.1, 0, 0.7), *every(1, 1, 12)])
    (offender,) = offenders(result)
    assert stays(result) == {"r": [(1, 11, 1)]}
    assert offender.first_ms == T0 + 500
    assert offender.refused == 10
    assert offender.over == 3, "at 0.5 s, at 0.6 s, and at 1 s"
    assert offender.peak == 7
    assert offender.requests == 18
    (figures,) = by_rule(result, [offender])
    assert (figures.offenders, figures.blocked, figures.share) == (1, 1, 10 / 18)


def test_a_delay_puts_off_the_block_and_not_its_end() -> None:
    rules = rules_of('name = "r"\nlimit = 5\nwindow = "1s"\nblock_for = "10s"')
    assert stays(tried(rules, every(0.1, 0, 0.6), delay_s=4)) == {"r": [(5, 11, 1)]}


def test_each_further_offence_doubles_the_block() -> None:
    rules = rules_of(
        'name = "r"\nlimit = 5\nwindow = "1s"\nblock_for = "10s"\nescalate = { factor = 2, max = "30s", memory = "1m" }'
    )
    # After each block the client goes on as before: it takes six new requests to be over again.
    assert stays(tried(rules, every(0.1, 0, 70))) == {"r": [(1, 11, 1), (12, 32, 2), (33, 63, 3), (64, 94, 4)]}


def test_requests_made_while_blocked_prolong_the_block_only_if_the_rule_says_so() -> None:
    table = 'name = "r"\nlimit = 5\nwindow = "1s"\nblock_for = "10s"'
    assert stays(tried(rules_of(table), every(0.1, 0, 5))) == {"r": [(1, 11, 1)]}
    assert stays(tried(rules_of(table + "\nextend = true"), every(0.1, 0, 5))) == {"r": [(1, 15, 1)]}


def test_a_rule_that_counts_says_what_it_would_have_done_and_blocks_nobody() -> None:
    table = 'name = "{}"\nlimit = 5\nwindow = "1s"\nblock_for = "10s"\naction = "{}"'
    result = tried(rules_of(table.format("a", "count"), table.format("b", "block")), every(0.1, 0, 5))
    assert stays(result) == {"a": [(1, 11, 1)], "b": [(1, 11, 1)]}


def test_a_request_in_the_second_that_a_block_ends_is_a_new_offence() -> None:
    for action in ("block", "count"):
        rules = rules_of(f'name = "r"\nlimit = 0\nwindow = "1s"\nblock_for = "10s"\naction = "{action}"')
        assert stays(tried(rules, [Hit(T0, ME), Hit(T0 + 10_999, ME), Hit(T0 + 11_000, ME)])) == {
            "r": [(1, 11, 1), (12, 22, 2)]
        }


def test_an_offender_is_named_also_where_another_block_came_first() -> None:
    rules = rules_of(
        'name = "fast"\nlimit = 5\nwindow = "1s"\nblock_for = "1h"', 'name = "slow"\nlimit = 20\nwindow = "10s"'
    )
    result = tried(rules, every(0.1, 0, 5))
    assert stays(result) == {"fast": [(1, 3601, 1)], "slow": []}
    assert [(o["rule"], o["blocked_for_s"], o["peak"]) for o in result_json(result)["offenders"]] == [
        ("slow", 0, 50),
        ("fast", 3600, 10),
    ]


def test_the_block_of_a_network_covers_its_addresses() -> None:
    rules = rules_of(
        'name = "net"\nlimit = 5\nwindow = "1s"\naggregate = { ipv4 = 24 }', 'name = "one"\nlimit = 20\nwindow = "10s"'
    )
    result = tried(rules, every(0.1, 0, 5))
    assert stays(result) == {"net": [(1, 601, 1)], "one": []}


def test_all_addresses_of_a_blocked_network_are_refused() -> None:
    rules = rules_of(
        'name = "net"\nlimit = 5\nwindow = "1s"\naggregate = { ipv4 = 24 }', 'name = "r"\nlimit = 99\nwindow = "1s"'
    )
    made = [*every(0.1, 0, 1), *every(0.5, 2, 4, "192.0.2.200"), *every(0.5, 2, 4, "192.0.3.1")]
    (offender,) = offenders(tried(rules, made))
    assert offender.network == ip_network("192.0.2.0/24")
    assert offender.refused == 4


def test_the_allowlist_names_and_does_not_block() -> None:
    rules = rules_of('name = "r"\nlimit = 5\nwindow = "1s"')
    result = tried(rules, every(0.1, 0, 5), allowlist=(ip_network("192.0.2.0/24"),))
    (offender,) = offenders(result)
    assert (offender.action, offender.stays, offender.refused) == ("allowlisted", (), 0)


def test_an_offender_in_two_logs_is_named_once_with_what_both_tell() -> None:
    rules = rules_of('name = "r"\nlimit = 5\nwindow = "1s"\nblock_for = "10s"')
    early, late = every(0.1, 0, 0.6), every(0.05, 20, 20.5)
    for first, second in ((logs.waf, logs.realtime), (logs.realtime, logs.waf)):
        blocks = [logs.block(map(first, early)), logs.block(map(second, late))]
        (result,) = replay(blocks, [rules], Options())
        (offender,) = offenders(result)
        assert (offender.first_ms, offender.peak, offender.requests) == (T0 + 500, 10, 16)
        assert [(stay.since - S0, stay.offence) for stay in offender.stays] == [(1, 1), (21, 2)]


def test_a_sampled_log_is_scaled_up() -> None:
    rules = rules_of('name = "r"\nlimit = 50\nwindow = "1s"')
    (offender,) = offenders(tried(rules, every(0.1, 0, 0.6), sample_rate=10))
    assert offender.peak == 60


slots = st.dictionaries(st.integers(0, 60), st.integers(1, 4), min_size=1, max_size=30)


@given(slots, st.integers(1, 20), st.integers(0, 12))
@settings(max_examples=200, deadline=None)
def test_crossings_are_the_windows_that_lambda_would_find(held: dict[int, int], resolution: int, limit: int) -> None:
    found = list(crossings(held, resolution, limit))
    # A batch that ends with each slot in turn, as Lambda would see them.
    expected = []
    for last in sorted(held):
        window = over_limit({s: n for s, n in held.items() if s <= last}, [last], resolution, limit)
        if window is not None:
            expected.append(window)
    assert found == expected
    assert peak(held, resolution) == max(
        sum(number for slot, number in held.items() if first <= slot < first + resolution) for first in held
    )
