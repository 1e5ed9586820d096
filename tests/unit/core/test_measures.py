"""Bytes and time: what is added up equals an exact sum, and a log without them counts nothing."""

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.logs.requests import BYTES, TIME_TAKEN, Column, Requests, Source
from chalicelib.core.measures import LARGEST_AMOUNT, Measure
from chalicelib.core.rules import Action, Rule, RuleSet
from chalicelib.core.rules_toml import RulesError, parse_rules
from chalicelib.core.sampling import Sampling, sampling_notes
from chalicelib.core.tally import Tallier, pack, unpack
from chalicelib.core.view import View

made = st.lists(
    st.tuples(st.integers(0, 20_000), st.sampled_from([b"aaaa", b"bbbb"]), st.integers(0, 5_000), st.booleans()),
    min_size=1,
    max_size=15,
)
"""Time in ms, client, amount, and whether it was answered as a refusal."""


def requests_of(rows: Sequence[tuple[int, bytes, int, bool]], column: str) -> Requests:
    def columns(name: str) -> Column | None:
        if name == column:
            return Column([amount for _, _, amount, _ in rows], str)
        if name == "status":
            return Column(["429" if refused else "200" for *_, refused in rows], str)
        return None

    return Requests(Source.CLOUDFRONT, [row[0] for row in rows], [row[1] for row in rows], columns)


@given(st.lists(made, min_size=1, max_size=3), st.sampled_from([Measure.BYTES, Measure.TIME]), st.integers(0, 9_000))
def test_clients_over_a_limit_are_those_whose_sum_in_a_window_exceeds_it(
    parts: list[list[tuple[int, bytes, int, bool]]], measure: Measure, limit: int
) -> None:
    rule = Rule(name="r", limit=limit, window_s=5, resolution=10, measure=measure)
    rules = RuleSet((rule, Rule(name="requests", limit=10**9, window_s=5, resolution=10)))
    view = View(rules, sample_rate=100, most_entries=10**6)
    over: dict[bytes, int] = {}
    for rows in parts:
        tally = Tallier(rules.meters()).tally([requests_of(rows, measure.column or "")])
        first_ms, last_ms = min(rows)[0], max(rows)[0]
        view.merge(unpack(pack(tally)), first_ms, last_ms)
        over |= {offence.client: offence.count for offence in view.offences(tally, first_ms, last_ms)}
    for client in (b"aaaa", b"bbbb"):
        slots: Counter[int] = Counter()
        for rows in parts:
            for time, own, amount, _ in rows:
                slots[time // rule.slot_ms] += amount * (own == client)
        sums = [sum(slots[slot] for slot in range(first, first + 10)) for first in range(-10, 50)]
        assert (client in over) == (max(sums) > limit)
        assert client not in over or over[client] in sums
        assert view.slots(Source.CLOUDFRONT, rule, client) == {slot: n for slot, n in slots.items() if n}


def test_a_log_that_does_not_tell_the_measure_counts_nothing() -> None:
    meters = RuleSet((Rule(name="r", limit=0, window_s=5, measure=Measure.TIME),)).meters()
    assert Tallier(meters).tally([requests_of([(0, b"aaaa", 5, False)], BYTES)]) == []


@pytest.mark.parametrize(("text", "expected"), [("-", 0), ("", 0), ("x", 0), ("9" * 5000, LARGEST_AMOUNT), ("7", 7)])
def test_an_amount_that_is_no_number_is_nothing_and_a_huge_one_is_bounded(text: str, expected: int) -> None:
    requests = Requests(Source.WEB_SERVER, [0], [b"aaaa"], lambda name: Column([text], str) if name == BYTES else None)
    meters = RuleSet((Rule(name="r", limit=0, window_s=5, measure=Measure.BYTES),)).meters()
    sums = [sum(part.totals()) for part in Tallier(meters).tally([requests])]
    assert sums == ([expected] if expected else [])


def test_the_tally_of_rules_without_a_measure_is_what_it_was_and_a_measure_has_a_topic_of_its_own() -> None:
    rows = [(0, b"aaaa", 5, False), (100, b"bbbb", 7, True)]
    plain = RuleSet((Rule(name="r", limit=0, window_s=5),))
    both = RuleSet((*plain.rules, Rule(name="b", limit=0, window_s=5, measure=Measure.BYTES)))
    before, after = (pack(Tallier(rules.meters()).tally([requests_of(rows, BYTES)])) for rules in (plain, both))
    topics = {meter.topic for meter in plain.meters()}
    kept = [part for part in unpack(after) if part.topic[:8] in topics]
    assert pack(kept) == before
    # A reader of rules without the measure, as one of an earlier version, skips what it does not know.
    view = View(plain, sample_rate=100, most_entries=100)
    view.merge(unpack(after), 0, 100)
    assert view.entries == 3  # two requests, and one of them as a refusal


@pytest.mark.parametrize(
    ("measure", "limit", "expected"),
    [
        ("bytes", '"10MB"', 10_000_000),
        ("bytes", "500", 500),
        ("time", '"30s"', 30_000),
        ("time", "30", 30_000),
        ("requests", "30", 30),
    ],
)
def test_a_limit_is_read_in_the_unit_of_its_measure(measure: str, limit: str, expected: int) -> None:
    text = f'[[rule]]\nname = "r"\nmeasure = "{measure}"\nlimit = {limit}\nwindow = "10s"\n'
    (rule,) = parse_rules(text).rules
    assert (rule.measure, rule.limit) == (measure, expected)


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (
            'measure = "bytes"\nlimit = "10 MB"\nwindow = "10s"',
            "limit: '10 MB' is not a number of bytes up to 1 PB, such as 500000, '800kB', '10MB' or '2GB'",
        ),
        (
            'measure = "time"\nlimit = "10MB"\nwindow = "10s"',
            "limit: '10MB' is not a number of seconds up to 1,000,000 or a time, such as 30, '30s' or '5m'",
        ),
        (
            'measure = "clicks"\nlimit = 10\nwindow = "10s"',
            "measure: 'clicks' is not 'requests', 'bytes' or 'time'",
        ),
        ('measure = "bytes"\nbucket = { rate = "2/s", burst = 50 }', "measure: a bucket counts requests"),
    ],
)
def test_a_limit_in_another_unit_is_rejected(lines: str, problem: str) -> None:
    with pytest.raises(RulesError) as caught:
        parse_rules(f'[[rule]]\nname = "r"\n{lines}\n')
    assert caught.value.problems == [f"rule 'r': {problem}"]


def test_a_sample_of_a_log_blocks_nobody_for_bytes_or_time() -> None:
    rule = Rule(name="r", limit=10**9, window_s=5, measure=Measure.BYTES)
    assert Sampling(50).applied(rule).action is Action.COUNT
    assert Sampling(100).applied(rule).action is Action.BLOCK
    (note,) = sampling_notes([rule], Sampling(50))
    assert "a sample of 50 % does not show the bytes of a client" in note


def test_columns_are_read_only_for_rules_that_measure_them() -> None:
    plain, timed = (
        RuleSet((Rule(name="r", limit=0, window_s=5, measure=each),)) for each in (Measure.REQUESTS, Measure.TIME)
    )
    assert TIME_TAKEN in timed.columns()
    assert {BYTES, TIME_TAKEN}.isdisjoint(plain.columns())
