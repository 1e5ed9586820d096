"""A rule that counts a client's requests apart names the clients with too many of one kind, and no others."""

from collections import Counter
from collections.abc import Sequence
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.client_groups import GROUPED_BY, client_of, ungrouped
from chalicelib.core.detections import detections_of
from chalicelib.core.known_clients import Digest, may_be_noted
from chalicelib.core.logs.requests import COLUMNS, Requests, Source
from chalicelib.core.rule_notes import rule_notes
from chalicelib.core.rules import Rule, RuleSet
from chalicelib.core.rules_diff import counted_anew, rule_words, sentence
from chalicelib.core.rules_toml import RulesError, parse_rules
from chalicelib.core.scope import Scope
from chalicelib.core.state.detections import SERVED_WITHIN_LIMIT
from chalicelib.core.tally import Tallier, pack, split, unpack
from chalicelib.core.view import View
from tests.support.records import requests_with

Made = tuple[int, str, str, str, bool]
"""Time in ms, client, path, host, and whether the request was answered as a refusal."""

CLIENTS = ["192.0.2.1", "2001:db8::1", "2001:db8::2"]
made = st.lists(
    st.tuples(
        st.integers(0, 20_000),
        st.sampled_from(CLIENTS),
        st.sampled_from(["/a", "/b", "/%61"]),
        st.sampled_from(["x", "y"]),
        st.booleans(),
    ),
    min_size=1,
    max_size=15,
)


def requests_of(rows: Sequence[Made]) -> Requests:
    columns = {
        "path": [path for _, _, path, _, _ in rows],
        "host": [host for *_, host, _ in rows],
        "status": ["429" if refused else "200" for *_, refused in rows],
    }
    return requests_with([row[:2] for row in rows], columns)


def network(client: str) -> str:
    """Returns the network of a client as a detection names it, of an IPv6 client its /64."""
    return f"{client}/32" if "." in client else f"{client.rpartition('::')[0]}::/64"


@given(
    st.lists(made, min_size=1, max_size=3),
    st.sampled_from([("path",), ("host",), ("host", "path")]),
    st.integers(0, 4),
    st.booleans(),
    st.integers(0, 2),
)
def test_clients_with_more_requests_of_one_kind_than_the_limit_are_named_once(
    parts: list[list[Made]], by: tuple[str, ...], limit: int, normalise: bool, splits: int
) -> None:
    rule = Rule(name="r", limit=limit, window_s=5, resolution=10, by=by, scope=Scope(normalise=normalise))
    rules = RuleSet((rule, Rule(name="all", limit=10**9, window_s=5, resolution=10)))
    view = View(rules, sample_rate=100, most_entries=10**6)
    named: set[str] = set()
    for rows in parts:
        tally = Tallier(rules.meters()).tally([requests_of(rows)])
        first_ms, last_ms = min(rows)[0], max(rows)[0]
        halves = [tally]
        for _ in range(splits):
            halves = [half for each in halves for half in (split(each) if sum(t.entries for t in each) > 9 else [each])]
        for half in halves:
            view.merge(unpack(pack(half)), first_ms, last_ms)
        offences = view.offences(tally, first_ms, last_ms)
        assert len({offence.client for offence in offences}) == len(offences)
        for detection in detections_of(offences, log="log", offset=0, rule_set="1", detected_ms=0, arrived_ms=0):
            named |= {offender.network for offender in detection.offenders}

    slots: Counter[tuple[str, tuple[str, ...], int]] = Counter()
    for rows in parts:
        for time, client, path, host, _ in rows:
            values = {"path": "/a" if normalise and path == "/%61" else path, "host": host}
            slots[network(client), tuple(values[name] for name in by), time // rule.slot_ms] += 1
    over = {
        client
        for client, values, _ in slots
        if any(sum(slots[client, values, slot] for slot in range(first, first + 10)) > limit for first in range(-9, 41))
    }
    assert named == over


def grouped(limit: int = 2) -> RuleSet:
    return RuleSet((Rule(name="r", limit=limit, window_s=5, resolution=10, by=("path",)),))


def view_of(rows: Sequence[Made], rules: RuleSet) -> tuple[View, list[tuple[int, int]]]:
    """Returns a view of the requests; and of each offence, its count and since when served requests are over."""
    view = View(rules, sample_rate=100, most_entries=1000)
    tally = Tallier(rules.meters()).tally([requests_of(rows)])
    view.merge(tally, 0, 20_000)
    return view, [(offence.count, offence.served_since_ms) for offence in view.offences(tally, 0, 20_000)]


def rows(path: str, number: int, *, at: int = 0, refused: bool = False) -> list[Made]:
    return [(at, "192.0.2.1", path, "x", refused)] * number


def test_of_two_groups_over_the_limit_the_one_that_was_served_is_the_offence() -> None:
    _, offences = view_of(rows("/a", 9, at=4000, refused=True) + rows("/b", 3), grouped())
    assert offences == [(3, 0)]
    _, offences = view_of(rows("/a", 9, refused=True) + rows("/b", 2), grouped())
    assert offences == [(9, SERVED_WITHIN_LIMIT)]


def test_paths_are_compared_as_the_scope_says() -> None:
    rule = Rule(name="r", limit=2, window_s=5, by=("path",), scope=Scope(normalise=True, ignore_case=True))
    made = [*rows("/a", 1), *rows("/%61", 1), *rows("//A", 1)]
    assert view_of(made, RuleSet((rule,)))[1] == [(3, 0)]
    assert view_of(made, grouped())[1] == []


def test_the_groups_of_a_client_are_found_by_its_address() -> None:
    view, _ = view_of(rows("/a", 9) + rows("/b", 2), grouped())
    client, other = bytes([192, 0, 2, 1]), bytes([192, 0, 2, 9])
    (rule,) = view.rules.rules
    assert sorted(map(str, view.groups(Source.CLOUDFRONT, rule, client))) == ["{0: 2}", "{0: 9}"]
    assert view.groups(Source.CLOUDFRONT, rule, other) == []
    assert {client for client, _ in view.clients(Source.CLOUDFRONT, rule)} == {client}


def test_a_log_without_the_column_counts_nothing_and_the_plan_says_so() -> None:
    by_agent = RuleSet((Rule(name="r", limit=0, window_s=5, by=("user_agent",)),))
    assert Tallier(by_agent.meters()).tally([requests_of(rows("/a", 9))]) == []
    notes = list(rule_notes(by_agent.rules, {source: {"path"} for source in Source}, [Source.CLOUDFRONT]))
    assert any("counts nothing: the cloudfront log lacks user_agent" in note for note in notes)


def test_a_reader_of_rules_without_groups_skips_them() -> None:
    plain = Rule(name="plain", limit=0, window_s=5, resolution=10)
    tally = Tallier(RuleSet((plain, *grouped().rules)).meters()).tally([requests_of(rows("/a", 9))])
    view = View(RuleSet((plain,)), sample_rate=100, most_entries=1000)
    view.merge(unpack(pack(tally)), 0, 0)
    assert view.entries == 1


def test_clients_that_only_groups_count_become_known_by_their_addresses() -> None:
    tally = Tallier(grouped().meters()).tally([requests_of([*rows("/a", 9), (0, "2001:db8:7:1::9", "/a", "x", False)])])
    for halvings in (0, 1, 8):
        marks = Digest().plus(client for counted in tally for client in may_be_noted(counted, halvings)).marks
        assert marks == {bytes([192, 0, 2, 1]), ip_address("2001:db8:7::").packed[:6]}
    assert ungrouped(b"\xc0\x00\x02\x01") == client_of(b"\xff" * 4 + b"\xc0\x00\x02\x01" + bytes(8))


def rule_of(lines: str) -> Rule:
    (rule,) = parse_rules(f'[[rule]]\nname = "r"\nlimit = 5\nwindow = "60s"\n{lines}\n').rules
    return rule


def test_columns_are_the_same_in_any_order_and_repr_of_other_rules_topics_stay() -> None:
    one, other = rule_of('aggregate = { by = ["path", "host"] }'), rule_of('aggregate = { by = ["host", "path"] }')
    assert one.meter.topic == other.meter.topic != rule_of("").meter.topic
    assert (one.by, one.prefixes) == (("host", "path"), (32, 64))
    assert set(GROUPED_BY) <= COLUMNS
    assert RuleSet((one,)).columns() >= {"host", "path"}
    assert sentence(rule_words(one)) == "more than 5 requests of the same host and path within 1m: block for 10m"
    (anew,) = counted_anew(RuleSet((rule_of(""),)), RuleSet((one,)))
    assert "starts counting from zero" in anew


@pytest.mark.parametrize(
    ("aggregate", "problem"),
    [
        (
            '{ by = ["status"] }',
            "aggregate.by: 'status' is not one of 'country', 'host', 'method', 'path', 'user_agent'",
        ),
        ("{ by = [] }", "aggregate.by: [] is not a list of at least one of country, host, method, path, user_agent"),
        (
            '{ by = ["path"], ipv6 = 128 }',
            "aggregate.ipv6: 128 is longer than /64, the longest prefix of clients counted by value",
        ),
    ],
)
def test_other_columns_and_longer_prefixes_are_rejected(aggregate: str, problem: str) -> None:
    with pytest.raises(RulesError) as caught:
        rule_of(f"aggregate = {aggregate}")
    assert caught.value.problems == [f"rule 'r': {problem}"]
