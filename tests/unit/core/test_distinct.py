"""A rule on different values names the clients that ask for too many of them within a window, and no others."""

from collections import defaultdict
from collections.abc import Sequence
from ipaddress import ip_address
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core import distinct
from chalicelib.core.allowance import Allowance
from chalicelib.core.client_groups import client_of, group_digest
from chalicelib.core.detections import Announced, detections_of
from chalicelib.core.distinct import LARGEST_DISTINCT, MOST_VALUES, lowest_values, mark, slot_of
from chalicelib.core.latest_window import LatestWindow
from chalicelib.core.logs.requests import COLUMNS, Requests, Source
from chalicelib.core.measures import DISTINCT, Measure
from chalicelib.core.meter_tally import FEW, Slots
from chalicelib.core.rule_notes import rule_notes
from chalicelib.core.rules import Action, Rule, RuleSet
from chalicelib.core.rules_diff import counted_anew, rule_words, sentence
from chalicelib.core.rules_toml import RulesError, parse_rules
from chalicelib.core.sampling import Sampling, sampling_notes
from chalicelib.core.scope import Scope
from chalicelib.core.state.detections import SERVED_WITHIN_LIMIT
from chalicelib.core.tally import Tallier, pack, split, unpack
from chalicelib.core.view import Offence, View
from chalicelib.core.windows import over_allowance
from sluice.replay.breaches import crossings_of, peak
from tests.support.records import requests_with

Made = tuple[int, str, str, bool]
"""Time in ms, client, path, and whether the request was answered as a refusal."""

CLIENTS = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"]
PATHS = ["/a", "/b", "/%61", "//a", "/c", "/d"]
made = st.lists(
    st.tuples(st.integers(0, 20_000), st.sampled_from(CLIENTS), st.sampled_from(PATHS), st.booleans()),
    min_size=1,
    max_size=15,
)
PLAIN = Rule(name="all", limit=10**9, window_s=5, resolution=10)


def requests_of(rows: Sequence[Made]) -> Requests:
    columns = {
        "path": [path for _, _, path, _ in rows],
        "status": ["429" if refused else "200" for *_, refused in rows],
    }
    return requests_with([row[:2] for row in rows], columns)


def paths(limit: int, **terms: object) -> Rule:
    """Returns a rule on different paths, in windows of 5 s."""
    terms = {"name": "r", "window_s": 5, "resolution": 10, "measure": Measure.PATHS, **terms}
    return Rule(limit=limit, **terms)  # type: ignore[arg-type]


def network(client: str) -> str:
    """Returns the network of a client as a detection names it, of an IPv6 client its /64."""
    return f"{client}/32" if "." in client else f"{client.rpartition('::')[0]}::/64"


def numbers(rows: Sequence[tuple[int, str, str]], rule: Rule) -> dict[str, list[int]]:
    """Returns the number of different paths of each client in every window, obviously and slowly."""
    windows: dict[str, list[int]] = defaultdict(list)
    for client in {client for _, client, _ in rows}:
        for first in range(-rule.resolution, 20_000 // rule.slot_ms + 1):
            own = [(time // rule.slot_ms, path) for time, other, path in rows if other == client]
            windows[client].append(len({path for slot, path in own if first <= slot < first + rule.resolution}))
    return windows


@given(
    st.lists(made, min_size=1, max_size=4),
    st.integers(0, 4),
    st.booleans(),
    st.integers(0, 2),
    st.booleans(),
)
def test_clients_with_more_different_paths_than_the_limit_in_a_window_are_named_and_no_others(
    parts: list[list[Made]], limit: int, normalise: bool, splits: int, finer: bool
) -> None:
    scope = Scope(normalise=normalise)
    rule = paths(limit, scope=scope)
    # Its slots of 500 ms fit into a finer meter; some tallies may be from before there was one.
    other = paths(1000, name="fine", window_s=1, scope=scope) if finer else paths(1000, name="as fine", scope=scope)
    rules, before = RuleSet((rule, other, PLAIN)), RuleSet((rule,))
    view = View(rules, sample_rate=100, most_entries=10**6)
    named: dict[str, int] = {}
    for number, rows in enumerate(parts):
        tally = Tallier((before if number % 2 else rules).meters()).tally([requests_of(rows)])
        first_ms, last_ms = min(rows)[0], max(rows)[0]
        halves = [tally]
        for _ in range(splits):
            halves = [half for each in halves for half in (split(each) if sum(t.entries for t in each) > 9 else [each])]
        merged = [view.merge(unpack(pack(half)), first_ms, last_ms) for half in halves]
        offences = [o for suspects in merged for o in view.offences(suspects, first_ms, last_ms) if o.rule == rule]
        for detection in detections_of(offences, log="log", offset=0, rule_set="1", detected_ms=0, arrived_ms=0):
            named |= {offender.network: offender.count for offender in detection.offenders}

    form = {"/%61": "/a", "//a": "/a"} if normalise else {}
    every = [(time, network(client), form.get(path, path)) for rows in parts for time, client, path, _ in rows]
    windows = numbers(every, rule)
    assert named.keys() == {client for client, counts in windows.items() if max(counts) > limit}
    assert all(named[client] in windows[client] for client in named)


marks = st.dictionaries(
    st.builds(mark, st.integers(0, 40), st.sampled_from([bytes([value]) * 8 for value in range(6)])),
    st.integers(1, 3),
    min_size=1,
    max_size=25,
)


@given(marks, st.integers(0, 4), st.data())
def test_the_window_and_the_moment_since_when_it_is_over_are_those_of_a_search_through_all(
    slots: Slots, limit: int, data: st.DataObject
) -> None:
    allowance, values = Allowance(10, limit, distinct=True), {(slot_of(each), each % 2**64) for each in slots}
    touched = data.draw(st.sets(st.sampled_from(sorted({slot for slot, _ in values})), min_size=1))

    def number(first: int, last: int) -> int:
        return len({value for slot, value in values if first <= slot <= last})

    ends = [last for last in {slot for slot, _ in values} if number(last - 9, last) > limit]
    of_touched = [last for last in ends if any(last - 10 < slot <= last for slot in touched)]
    window = over_allowance(slots, touched, allowance)
    assert (window is not None) == bool(of_touched)
    if window is not None:
        assert (window.last, window.count) == (max(of_touched), number(window.last - 9, window.last))
        assert window.first == min(slot for slot, _ in values if window.last - 10 < slot)
        assert window.since == max(s for s in range(window.last - 9, window.last + 1) if number(s, window.last) > limit)
    # What a replay finds is the same, window by window.
    crossings = crossings_of(slots, allowance)
    assert [w.last for w in crossings] == sorted(ends)
    for position, each in enumerate(crossings):
        upto = {m: n for m, n in slots.items() if slot_of(m) <= each.last}
        assert each == over_allowance(upto, [each.last], allowance)
        assert crossings.last(position) == each.last
        refused = data.draw(st.fixed_dictionaries({}, optional={m: st.just(slots[m]) for m in slots}))
        served = {
            m: n for m, n in slots.items() if m not in refused and slot_of(m) in range(each.last - 9, each.last + 1)
        }
        is_touched = each.last in map(slot_of, served)
        expected = over_allowance(served, [each.last], allowance) if is_touched else None
        assert crossings.served(each, refused) == expected
    assert peak(slots, allowance) == max(number(last - 9, last) for last, _ in values)
    assert LatestWindow(10, 20).count(slots, allowance) == number(10, 19)
    new = {last: number(last - 9, last) - number(last - 9, last - 1) for last in ends}
    assert crossings.over() == sum(min(new[last], number(last - 9, last) - limit) for last in ends)


def offences_of(rows: Sequence[Made], rule: Rule, *, most: int = 10**6) -> list[Offence]:
    view = View(RuleSet((rule,)), sample_rate=100, most_entries=most)
    tally = Tallier(view.rules.meters()).tally([requests_of(rows)])
    first_ms, last_ms = min(rows)[0], max(rows)[0]
    view.merge(tally, first_ms, last_ms)
    return view.offences(tally, first_ms, last_ms)


def asked(number: int, *, at: int = 0, refused: bool = False, client: str = CLIENTS[0], start: int = 0) -> list[Made]:
    """Returns requests for as many different paths."""
    return [(at, client, f"/{start + each}", refused) for each in range(number)]


def test_a_window_begins_after_the_slot_that_is_one_window_before_its_last() -> None:
    first, last = asked(1, at=499), asked(1, at=4999, start=1)
    (offence,) = offences_of([*first, *last], paths(1))
    assert (offence.first_ms, offence.last_ms) == (0, 4999)
    assert offences_of([*first, *asked(1, at=5000, start=1)], paths(1)) == []
    a, b = bytes(8), bytes([1]) * 8
    slots = {mark(0, a): 1, mark(10, a): 1, mark(10, b): 1, mark(30, a): 1}
    assert over_allowance(slots, [0, 30], Allowance(10, 1, distinct=True)) is None


def test_each_batch_is_judged_by_all_that_have_been_merged_in_any_order() -> None:
    batches = [asked(1, at=4600), asked(1, at=0), asked(1, at=9000, start=1)]
    for order in permutations(batches):
        view = View(RuleSet((paths(1), paths(1000, name="fine", window_s=1))), sample_rate=100, most_entries=1000)
        named = set()
        for rows in order:
            tally = Tallier(view.rules.meters()).tally([requests_of(rows)])
            suspects = view.merge(tally, rows[0][0], rows[0][0])
            named |= {o.last_ms for o in view.offences(suspects, rows[0][0], rows[0][0])}
        assert named == {9499}, order


def test_a_client_that_repeats_few_values_is_not_examined(monkeypatch: pytest.MonkeyPatch) -> None:
    view = View(RuleSet((paths(3),)), sample_rate=100, most_entries=1000)
    monkeypatch.setattr("chalicelib.core.view.over_allowance", None)
    for at in range(0, 20_000, 100):
        tally = Tallier(view.rules.meters()).tally([requests_of(asked(3, at=at))])
        assert view.offences(view.merge(tally, at, at), at, at) == []


def test_values_that_were_refused_are_not_held_against_a_client_again() -> None:
    (offence,) = offences_of([*asked(3), *asked(3, refused=True, at=600)], paths(2))
    assert (offence.count, offence.since_ms, offence.served_since_ms) == (3, 500, 0)
    (offence,) = offences_of([*asked(2), *asked(3, refused=True, at=600, start=2)], paths(2))
    assert (offence.count, offence.served_since_ms) == (5, SERVED_WITHIN_LIMIT)
    # A value that was refused and served counts as served.
    (offence,) = offences_of([*asked(3, refused=True), *asked(3)], paths(2))
    assert offence.served_since_ms == 0


def test_a_client_that_goes_on_is_reported_again_only_for_as_many_values_since_its_report() -> None:
    rule = paths(2)
    view, announced, reports = View(RuleSet((rule,)), sample_rate=100, most_entries=1000), Announced(), []
    for second in range(18):
        # The same three paths each second, so many requests, and a new path every other second.
        rows = [*asked(3, at=second * 1000), *asked(1, at=second * 1000, start=10 + second // 2)]
        tally = Tallier(view.rules.meters()).tally([requests_of(rows)])
        suspects = view.merge(tally, second * 1000, second * 1000 + 499)
        offences = announced.fresh(view.offences(suspects, second * 1000, second * 1000 + 499, announced))
        announced.add(offences)
        reports += [second for _ in offences]
    assert reports == [0, 11]


def test_more_values_than_are_kept_are_over_any_limit_in_any_order_and_their_refusals_are_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(distinct, "MOST_VALUES", 20)
    monkeypatch.setattr("chalicelib.core.grid.MOST_VALUES", 20)
    rows = [*asked(150), *asked(150, at=900, start=150)]
    counts = []
    for order in (rows, rows[::-1], rows[1::2] + rows[::2]):
        view = View(RuleSet((paths(19),)), sample_rate=100, most_entries=10**6)
        tallier = Tallier(view.rules.meters())
        for at in range(0, 300, 30):
            tally = tallier.tally([requests_of(order[at : at + 30])])
            view.merge(tally, 0, 999)
            offences = view.offences(tally, 0, 999)
        counts.append([(offence.count, offence.client) for offence in offences])
    assert counts == [[(40, ip_address(CLIENTS[0]).packed)]] * 3
    (offence,) = offences_of([*asked(300, refused=True), *asked(5, start=300)], paths(19))
    assert offence.served_since_ms == SERVED_WITHIN_LIMIT
    kept = {mark(1, bytes([value]) * 8): 1 for value in range(20)}
    assert lowest_values({**kept, **{mark(1, bytes([value]) * 8): 1 for value in range(20, 99)}}) == kept


def test_the_marks_of_clients_near_a_limit_are_bounded_and_extracted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chalicelib.core.grid.MOST_NEAR_MARKS", 5)
    clients = [f"192.0.2.{number}" for number in range(3 * FEW)]
    view = View(RuleSet((paths(2),)), sample_rate=100, most_entries=10**6)
    for at in (0, 600, 1200):
        rows = [row for client in clients for row in asked(1, at=at, client=client, start=at)]
        tally = Tallier(view.rules.meters()).tally([requests_of(rows)])
        suspects = view.merge(tally, at, at)
        offences = view.offences(suspects, at, at)
        few = [part.select([number == 0 for number in range(len(part.keys()))]) for part in suspects]
        assert view.offences(few, at, at) == offences[:1]
    assert [offence.count for offence in offences] == [3] * len(clients)
    (grid,) = view._grids.values()
    assert sum(len(stretch.near) for stretch in grid._stretches.values()) == 1, "the others have been forgotten"


def test_a_full_view_drops_the_clients_furthest_from_the_limit() -> None:
    rows = [*asked(12), *(row for number in range(40) for row in asked(1, client=f"198.51.100.{number}"))]
    (offence,) = offences_of(rows, paths(10), most=30)
    assert offence.count == 12


def test_the_client_of_a_rule_is_asked_about_by_its_address() -> None:
    view = View(RuleSet((paths(1),)), sample_rate=100, most_entries=1000)
    tally = Tallier(view.rules.meters()).tally([requests_of([*asked(3), *asked(3, client=CLIENTS[2])])])
    view.merge(tally, 0, 0)
    (rule,) = view.rules.rules
    client = ip_address(CLIENTS[0]).packed
    (slots,) = view.groups(Source.CLOUDFRONT, rule, client)
    assert LatestWindow(0, 10).count(slots, Allowance.of(rule, Source.CLOUDFRONT)) == 3
    assert {client for client, _ in view.clients(Source.CLOUDFRONT, rule)} == {
        client,
        ip_address("2001:db8::").packed,
    }


def test_the_tally_of_other_rules_is_what_it_was_and_their_readers_skip_the_values() -> None:
    rows = [*asked(3), *asked(2, refused=True)]
    plain, both = RuleSet((PLAIN,)), RuleSet((PLAIN, paths(1)))
    before, after = (pack(Tallier(rules.meters()).tally([requests_of(rows)])) for rules in (plain, both))
    topics = {meter.topic for meter in plain.meters()}
    assert pack([part for part in unpack(after) if part.topic[:8] in topics]) == before
    view = View(plain, sample_rate=100, most_entries=100)
    view.merge(unpack(after), 0, 0)
    assert view.entries == 2
    assert "path" not in plain.columns()
    assert "path" in both.columns()


def test_values_have_the_same_digest_in_every_process() -> None:
    (part,) = Tallier(RuleSet((paths(1),)).meters()).tally([requests_of(asked(1))])
    assert part.keys16 == b"\xff\xff\xff\xff\xc0\x00\x02\x01" + group_digest(("/0",))
    assert group_digest(("/0",)).hex() == "223764d380821125"
    assert client_of(part.keys16) == ip_address(CLIENTS[0]).packed


def test_a_log_without_the_column_counts_nothing_and_the_plan_says_so() -> None:
    by_agent = RuleSet((paths(0, measure=Measure.USER_AGENTS),))
    assert Tallier(by_agent.meters()).tally([requests_of(asked(9))]) == []
    notes = list(rule_notes(by_agent.rules, {source: {"path"} for source in Source}, [Source.CLOUDFRONT]))
    assert any("counts nothing: the cloudfront log lacks user_agent" in note for note in notes)
    (note,) = rule_notes([paths(5)], dict.fromkeys(Source, COLUMNS))
    assert "after 5 different paths of any kind: one page with its files may be more" in note


def test_a_sample_of_a_log_blocks_nobody_for_different_values() -> None:
    assert Sampling(50).applied(paths(100)).action is Action.COUNT
    (note,) = sampling_notes([paths(100)], Sampling(50))
    assert note.endswith("a sample of 50 % does not show the different paths of a client.")


def rule_of(lines: str, limit: object = 5) -> Rule:
    (rule,) = parse_rules(f'[[rule]]\nname = "r"\nlimit = {limit}\nwindow = "60s"\n{lines}\n').rules
    return rule


@pytest.mark.parametrize(("column", "measure"), DISTINCT.items())
def test_each_column_of_different_values_has_a_topic_and_words_of_its_own(column: str, measure: Measure) -> None:
    rule = rule_of(f'distinct = "{column}"')
    assert (rule.measure, rule.by) == (measure, ())
    assert column in RuleSet((rule,)).columns()
    others = [rule_of(""), rule_of(f'aggregate = {{ by = ["{column}"] }}')]
    assert rule.meter.topic not in {other.meter.topic for other in others}
    words = column.replace("_", " ")
    assert sentence(rule_words(rule)) == f"more than 5 different {words}s within 1m: block for 10m"
    (anew,) = counted_anew(RuleSet((others[0],)), RuleSet((rule,)))
    assert "starts counting from zero" in anew


@pytest.mark.parametrize(
    ("lines", "limit", "problem"),
    [
        ('distinct = "status"', 5, "distinct: 'status' is not 'path', 'host' or 'user_agent'"),
        ('distinct = ["path"]', 5, "distinct: ['path'] is not 'path', 'host' or 'user_agent'"),
        ('distinct = "path"', 1001, f"limit: 1001 is not a whole number from 0 to {LARGEST_DISTINCT}"),
        (
            'distinct = "path"\nmeasure = "bytes"',
            5,
            "measure: a rule with distinct counts different values; leave out measure",
        ),
        ('measure = "paths"', 5, "measure: 'paths' is not 'requests', 'bytes' or 'time'"),
        (
            'distinct = "path"\naggregate = { by = ["path"] }',
            5,
            "aggregate.by: a rule with distinct counts the values of a client together; leave out by",
        ),
        (
            'distinct = "path"\naggregate = { ipv6 = 128 }',
            5,
            "aggregate.ipv6: 128 is longer than /64, the longest prefix of clients counted by value",
        ),
        (
            'distinct = "path"\nresolution = "exact"',
            5,
            "resolution: 'exact' is not a whole number from 10 to 100, as a rule with distinct takes",
        ),
    ],
)
def test_what_does_not_go_together_with_different_values_is_rejected(lines: str, limit: int, problem: str) -> None:
    with pytest.raises(RulesError) as caught:
        rule_of(lines, limit)
    assert caught.value.problems == [f"rule 'r': {problem}"]


def test_a_bucket_of_different_values_is_rejected() -> None:
    with pytest.raises(RulesError, match="bucket: a rule with distinct counts different values; leave out bucket"):
        parse_rules('[[rule]]\nname = "r"\ndistinct = "path"\nbucket = { rate = "2/s", burst = 50 }\n')


def test_a_limit_is_below_the_number_of_values_that_are_told_apart() -> None:
    assert LARGEST_DISTINCT < MOST_VALUES
