"""Replay names the offenders that an exact count names, and nobody else: G1 and G2 over whole files."""

from collections import defaultdict

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chalicelib.core.addresses import NetworkSet
from chalicelib.core.logs.cloudfront import DEFAULT_FIELDS
from chalicelib.core.logs.requests import Source
from chalicelib.core.rules import RuleSet, parse_rules
from chalicelib.core.tally import MeterTally, Slots
from sluice.analysis.summary import offenders
from sluice.logs.file_decoder import Chunk, LogDecoder
from sluice.replay import counts as counting
from sluice.replay import prefilter as sieve
from sluice.replay import strips
from sluice.replay.counts import Counts
from sluice.replay.engine import Options, replay
from tests.support import replay_logs as logs
from tests.support.replay_logs import T0, Hit

CLIENTS = [
    "192.0.2.1",
    "192.0.2.2",
    "198.51.100.7",
    "2001:db8::1",
    "2001:DB8:0:0:1::",
    "2001:db8:0:1::1",
    "::ffff:192.0.2.1",
]
FORMATS = {
    "real-time": (logs.realtime, ""),
    "v2 w3c": (logs.v2_w3c, logs.V2_HEADER),
    "v2 json": (logs.v2_json, ""),
    "waf": (logs.waf, ""),
    "load balancer": (logs.balancer, ""),
}
SECONDS_ONLY = {"v1": (logs.standard, logs.STANDARD_HEADER), "combined": (logs.combined, "")}

# Times that crowd around the edges of slots (10 ms) and windows (1 s), before and after.
moments = st.builds(
    lambda window, slot, off: T0 + window * 1000 + slot * 10 + off,
    st.integers(-2, 3),
    st.integers(0, 3),
    st.sampled_from([0, 1, 9, -1, 5]),
)
hits = st.lists(st.builds(Hit, moments, st.sampled_from(CLIENTS)), max_size=40)


def one_rule(limit: int, window: str = "1s", more: str = "") -> RuleSet:
    return parse_rules(f'[[rule]]\nname = "r"\nlimit = {limit}\nwindow = "{window}"\n{more}\n')


def named(blocks: list[Chunk], rules: RuleSet) -> dict[str, int]:
    """Client to peak."""
    (result,) = replay(blocks, [rules], Options())
    return {str(offender.network): offender.peak for offender in offenders(result)}


def check(found: dict[str, int], rules: RuleSet, made: list[Hit]) -> None:
    (rule,) = rules.rules
    must, may = logs.must_and_may(rule, made)
    assert must <= found.keys() <= may
    times = defaultdict(list)
    for hit in made:
        times[logs.network(rule, hit.client)].append(hit.ms)
    assert found == {client: logs.peak(rule, times[client]) for client in found}


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=60, deadline=None)
@given(hits, st.integers(0, 5), st.sampled_from(["1s", "2s"]))
@example([Hit(T0, "192.0.2.1"), Hit(T0 + 1000, "192.0.2.1")], 1, "1s")
@example([Hit(T0 + 5, "192.0.2.1"), Hit(T0 + 994, "192.0.2.1")], 1, "1s")
@example([Hit(T0 + 999, "192.0.2.1")], 0, "1s")
def test_offenders_agree_with_an_exact_count(name: str, made: list[Hit], limit: int, window: str) -> None:
    line, header = FORMATS[name]
    rules = one_rule(limit, window)
    check(named([logs.block(map(line, made), header)], rules), rules, made)


@pytest.mark.parametrize("name", SECONDS_ONLY)
@settings(max_examples=40, deadline=None)
@given(hits, st.integers(0, 5))
def test_offenders_agree_where_the_log_knows_whole_seconds_only(name: str, made: list[Hit], limit: int) -> None:
    line, header = SECONDS_ONLY[name]
    rules = one_rule(limit, "2s")
    check(
        named([logs.block(map(line, made), header)], rules),
        rules,
        [Hit(hit.ms // 1000 * 1000, hit.client) for hit in made],
    )


@settings(max_examples=60, deadline=None)
@given(hits, st.data())
def test_neither_order_nor_cuts_change_anything(made: list[Hit], data: st.DataObject) -> None:
    rules = one_rule(2)
    shuffled = data.draw(st.permutations(made))
    cut = data.draw(st.integers(0, len(made)))
    in_order = named([logs.block(map(logs.realtime, sorted(made, key=lambda hit: hit.ms)))], rules)
    parts = [logs.block(map(logs.realtime, part)) for part in (shuffled[:cut], shuffled[cut:])]
    assert named(parts, rules) == in_order


@settings(max_examples=40, deadline=None)
@given(hits)
def test_wider_clients_are_counted_together(made: list[Hit]) -> None:
    rules = one_rule(2, more="aggregate = { ipv4 = 24, ipv6 = 48 }")
    check(named([logs.block(map(logs.realtime, made))], rules), rules, made)


def test_two_requests_exactly_a_window_apart_are_not_in_one_span() -> None:
    apart = [Hit(T0, "192.0.2.1"), Hit(T0 + 1000, "192.0.2.1")]
    assert named([logs.block(map(logs.realtime, apart))], one_rule(1)) == {}


def test_a_limit_of_zero_names_whoever_comes() -> None:
    assert named([logs.block([logs.realtime(Hit(T0, "192.0.2.1"))])], one_rule(0)) == {"192.0.2.1/32": 1}


def test_a_scope_counts_only_what_it_matches() -> None:
    made = [Hit(T0 + n, "192.0.2.1", path="/login" if n % 2 else "/") for n in range(10)]
    rules = one_rule(4, more='scope = { path_prefix = ["/login"], host = ["www.example.com"], method = ["GET"] }')
    for line, header in (*FORMATS.values(), (logs.standard, logs.STANDARD_HEADER)):
        assert named([logs.block(map(line, made), header)], rules) == {"192.0.2.1/32": 5}, line.__name__


def test_each_log_is_counted_by_itself() -> None:
    made = [Hit(T0 + n, "192.0.2.1") for n in range(3)]
    blocks = [logs.block(map(logs.realtime, made)), logs.block(map(logs.waf, made))]
    assert named(blocks, one_rule(3)) == {}
    assert named(blocks, one_rule(2)) == {"192.0.2.1/32": 3}


@settings(max_examples=40, deadline=None)
@given(hits, st.integers(0, 3))
def test_what_is_put_away_is_counted_all_the_same(made: list[Hit], limit: int) -> None:
    rules = counting.with_every_request(one_rule(limit, more="aggregate = { ipv4 = 24, ipv6 = 64 }"))
    longest = (24, 64)
    scopes = tuple(dict.fromkeys(rule.scope for rule in rules.rules))
    read = strips.StripReader(LogDecoder(DEFAULT_FIELDS, frozenset(), NetworkSet(())), scopes, longest)
    held, small = Counts(rules), Counts(rules, most_entries=2)
    for hit in made:
        for counts in (held, small):
            sifting = sieve.Sieve(rules, scopes, longest, everyone=True)
            for tally in sifting.tallies(read(logs.block([logs.realtime(hit)]))[1]):
                counts.add(tally)

    def content(counts: Counts) -> dict[object, Slots]:
        return {
            (counted.source, counted.topic, counted.slot_ms, client): slots
            for ledger in counts.ledgers()
            for counted in ledger.tally()
            for client, slots in counted.clients.items()
        }

    everybody = content(small)
    assert everybody == content(held)
    assert sum(number for slots in everybody.values() for number in slots.values()) == len(made)
    small.close()


def test_clients_that_share_blocks_are_put_away_together() -> None:
    rules = parse_rules(
        '[[rule]]\nname = "one"\nlimit = 1\nwindow = "1s"\n'
        '[[rule]]\nname = "net"\nlimit = 1\nwindow = "1s"\naggregate = { ipv4 = 24 }\n'
    )
    (narrow, wide) = (rule.meter for rule in rules.rules)
    counts = Counts(rules, most_entries=10)
    for number in range(200):
        address = bytes([192, 0, number % 8, number])
        network = address[:3] + b"\0"
        for meter, client in ((narrow, address), (wide, network)):
            clients = {client: {number: 1}}
            counts.add((MeterTally.of(Source.WAF, meter, clients),))
    places = defaultdict(set)
    for place, ledger in enumerate(counts.ledgers()):
        for counted in ledger.tally():
            for client in counted.clients:
                places[client[:3]].add(place)
    assert len(places) == 8
    assert all(len(where) == 1 for where in places.values())
    counts.close()


def test_very_many_clients_share_totals_and_no_offender_is_lost() -> None:
    totals = sieve.Totals(most_groups=10)
    groups = [n.to_bytes(4, "big") for n in range(100)]
    busy = groups[::7]
    totals.add(groups)
    totals.add(busy)
    totals.add(groups[:5])
    assert all((totals.above(1) | sieve.Groups(())).flags(busy))
    assert not any(totals.above(3).flags(groups[5:])), "buckets are many enough to tell a hundred groups apart"
