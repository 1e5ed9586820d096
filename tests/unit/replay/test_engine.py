"""Replay names the offenders that an exact count names, and no others: G1 and G2 over whole files."""

from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chalicelib.core.rules import RuleSet
from chalicelib.core.rules_toml import parse_rules
from sluice.analysis.summary import offenders
from sluice.logs.files import Chunk
from sluice.replay.counts import Counts
from sluice.replay.engine import Options, replay
from tests.support import replay_logs as logs
from tests.support.buckets import exceeds, exceeds_in_slots
from tests.support.replay_logs import MILLISECOND_FORMATS, SECOND_FORMATS, T0, Hit, hits, one_rule


def named(chunks: list[Chunk], rules: RuleSet) -> dict[str, int]:
    """Returns the peak of each offender."""
    (result,) = replay(chunks, [rules], Options())
    return {str(offender.network): offender.peak for offender in offenders(result)}


def check(peaks: dict[str, int], rules: RuleSet, made: list[Hit]) -> None:
    (rule,) = rules.rules
    must, may = logs.must_and_may(rule, made)
    assert must <= peaks.keys() <= may
    times = defaultdict(list)
    for hit in made:
        times[logs.network(rule, hit.client)].append(hit.ms)
    assert peaks == {client: logs.peak(rule, times[client]) for client in peaks}


@pytest.mark.parametrize("name", MILLISECOND_FORMATS)
@settings(max_examples=60, deadline=None)
@given(hits, st.integers(0, 5), st.sampled_from(["1s", "2s"]))
@example([Hit(T0, "192.0.2.1"), Hit(T0 + 1000, "192.0.2.1")], 1, "1s")
@example([Hit(T0 + 5, "192.0.2.1"), Hit(T0 + 994, "192.0.2.1")], 1, "1s")
@example([Hit(T0 + 999, "192.0.2.1")], 0, "1s")
def test_offenders_agree_with_an_exact_count(name: str, made: list[Hit], limit: int, window: str) -> None:
    line, header = MILLISECOND_FORMATS[name]
    rules = one_rule(limit, window)
    check(named([logs.chunk(map(line, made), header)], rules), rules, made)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.builds(
            Hit,
            st.integers(0, 15 * 96).map(lambda n: T0 + n * 900_000 - n % 3),
            st.sampled_from(["192.0.2.1", "2001:db8::1"]),
        ),
        min_size=1,
        max_size=30,
    ),
    st.integers(0, 9),
    st.sampled_from(["1d", "3d", "12d"]),
)
@example([Hit(T0, "192.0.2.1"), Hit(T0 + 86_400_000, "192.0.2.1")], 1, "1d")
def test_offenders_of_a_quota_agree_with_an_exact_count(made: list[Hit], limit: int, window: str) -> None:
    rules = one_rule(limit, window)
    assert rules.rules[0].is_quota
    line, header = MILLISECOND_FORMATS["real-time"]
    check(named([logs.chunk(map(line, made), header)], rules), rules, made)


@pytest.mark.parametrize("name", SECOND_FORMATS)
@settings(max_examples=40, deadline=None)
@given(hits, st.integers(0, 5))
def test_offenders_agree_if_times_are_whole_seconds(name: str, made: list[Hit], limit: int) -> None:
    line, header = SECOND_FORMATS[name]
    rules = one_rule(limit, "2s")
    check(
        named([logs.chunk(map(line, made), header)], rules),
        rules,
        [Hit(hit.ms // 1000 * 1000, hit.client) for hit in made],
    )


@settings(max_examples=60, deadline=None)
@given(hits, st.data())
def test_the_order_and_division_of_lines_change_nothing(made: list[Hit], data: st.DataObject) -> None:
    rules = one_rule(2)
    shuffled = data.draw(st.permutations(made))
    cut = data.draw(st.integers(0, len(made)))
    in_order = named([logs.chunk(map(logs.realtime, sorted(made, key=lambda hit: hit.ms)))], rules)
    parts = [logs.chunk(map(logs.realtime, part)) for part in (shuffled[:cut], shuffled[cut:])]
    assert named(parts, rules) == in_order


@settings(max_examples=40, deadline=None)
@given(hits)
def test_wider_clients_are_counted_together(made: list[Hit]) -> None:
    rules = one_rule(2, more="aggregate = { ipv4 = 24, ipv6 = 48 }")
    check(named([logs.chunk(map(logs.realtime, made))], rules), rules, made)


def test_two_requests_exactly_a_window_apart_are_not_in_one_span() -> None:
    apart = [Hit(T0, "192.0.2.1"), Hit(T0 + 1000, "192.0.2.1")]
    assert named([logs.chunk(map(logs.realtime, apart))], one_rule(1)) == {}


def test_a_limit_of_zero_names_every_client() -> None:
    assert named([logs.chunk([logs.realtime(Hit(T0, "192.0.2.1"))])], one_rule(0)) == {"192.0.2.1/32": 1}


def test_a_scope_counts_only_what_it_matches() -> None:
    made = [Hit(T0 + n, "192.0.2.1", path="/login" if n % 2 else "/") for n in range(10)]
    rules = one_rule(4, more='scope = { path_prefix = ["/login"], host = ["www.example.com"], method = ["GET"] }')
    for line, header in (*MILLISECOND_FORMATS.values(), (logs.standard, logs.STANDARD_HEADER)):
        assert named([logs.chunk(map(line, made), header)], rules) == {"192.0.2.1/32": 5}, line.__name__


def test_each_log_is_counted_by_itself() -> None:
    made = [Hit(T0 + n, "192.0.2.1") for n in range(3)]
    chunks = [logs.chunk(map(logs.realtime, made)), logs.chunk(map(logs.waf, made))]
    assert named(chunks, one_rule(3)) == {}
    assert named(chunks, one_rule(2)) == {"192.0.2.1/32": 3}


FIELDS = ("timestamp", "c-ip", "sc-status", "sc-bytes", "cs-uri-stem", "time-taken")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 9_000), st.sampled_from(["192.0.2.1", "192.0.2.2"]), st.integers(0, 900), st.booleans()
        ),
        min_size=1,
        max_size=20,
    ),
    st.integers(0, 2_000),
    st.sampled_from(["bytes", "time"]),
)
def test_a_measure_is_added_up_as_an_exact_sum_says(
    made: list[tuple[int, str, int, bool]], limit: int, measure: str
) -> None:
    limit = limit if measure == "bytes" else limit // 1000
    rules = one_rule(limit, "2s", f'measure = "{measure}"\nscope = {{ path = ["/a"] }}')
    (rule,) = rules.rules
    lines = []
    for ms, client, amount, in_scope in made:
        stamp, path = f"{(T0 + ms) // 1000}.{(T0 + ms) % 1000:03d}", "/a" if in_scope else "/b"
        size, taken = (amount, 7) if measure == "bytes" else (7, amount)
        lines.append(f"{stamp}\t{client}\t200\t{size}\t{path}\t{taken / 1000:.3f}")
    (result,) = replay([logs.chunk(lines)], [rules], Options(fields=FIELDS))
    found = {str(offender.network): (offender.peak, offender.requests) for offender in offenders(result)}

    expected = {}
    for client in ("192.0.2.1", "192.0.2.2"):
        own = [((T0 + ms) // rule.slot_ms, amount) for ms, who, amount, in_scope in made if who == client and in_scope]
        sums = [sum(n for slot, n in own if first <= slot < first + rule.resolution) for first, _ in own]
        if max(sums, default=0) > rule.limit:
            expected[f"{client}/32"] = max(sums), len(own)
    assert found == expected


@pytest.mark.parametrize("by", [("path",), ("host", "method"), ("host", "path")])
@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.builds(
            Hit,
            st.integers(T0, T0 + 4000),
            st.sampled_from(["192.0.2.1", "2001:db8::1", "2001:db8::2"]),
            path=st.sampled_from(["/a", "//a", "/b"]),
            method=st.sampled_from(["GET", "POST"]),
            host=st.sampled_from(["x.example", "y.example"]),
        ),
        min_size=1,
        max_size=20,
    ),
    st.integers(0, 4),
)
def test_requests_with_the_same_values_are_counted_apart(by: tuple[str, ...], made: list[Hit], limit: int) -> None:
    rules = one_rule(limit, more=f"aggregate = {{ by = {list(by)} }}\nscope = {{ normalise = true }}")
    (rule,) = rules.rules
    (result,) = replay([logs.chunk(map(logs.realtime, made))], [rules], Options())
    times, requests = defaultdict(list), Counter[str]()
    for hit in made:
        own = replace(hit, path=hit.path.replace("//", "/"))
        client = logs.network(rule, hit.client)
        times[client, *(getattr(own, name) for name in by)].append(hit.ms)
        requests[client] += 1
    peaks = {group: logs.peak(rule, own) for group, own in times.items()}
    expected = {
        client: (max(peak for group, peak in peaks.items() if group[0] == client), requests[client])
        for client, *_ in [group for group, peak in peaks.items() if peak > limit]
    }
    assert {str(o.network): (o.peak, o.requests) for o in offenders(result)} == expected
    assert len(result.breaches) == len(expected)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.builds(
            Hit,
            st.integers(T0, T0 + 4000),
            st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"]),
            path=st.sampled_from(["/a", "//a", "/b", "/c"]),
        ),
        min_size=1,
        max_size=20,
    ),
    st.integers(0, 3),
    st.booleans(),
)
def test_different_paths_are_counted_once_per_window(made: list[Hit], limit: int, spilled: bool) -> None:
    rules = one_rule(limit, more='distinct = "path"\nscope = { normalise = true }')
    (rule,) = rules.rules
    with pytest.MonkeyPatch.context() as patch:
        if spilled:
            patch.setattr(Counts.__init__, "__defaults__", (0,))
        (result,) = replay([logs.chunk(map(logs.realtime, made))], [rules], Options())
    visited = defaultdict(list)
    for hit in made:
        visited[logs.network(rule, hit.client)].append((hit.ms // rule.slot_ms, hit.path.replace("//", "/")))
    peaks = {
        client: max(len({path for slot, path in own if first <= slot < first + rule.resolution}) for first, _ in own)
        for client, own in visited.items()
    }
    expected = {client: (peak, len(visited[client])) for client, peak in peaks.items() if peak > limit}
    assert {str(o.network): (o.peak, o.requests) for o in offenders(result)} == expected


@settings(max_examples=60, deadline=None)
@given(hits, st.integers(1, 5), st.sampled_from(["1/s", "1/2s", "3/s"]))
def test_offenders_of_a_bucket_agree_with_an_exact_count(made: list[Hit], burst: int, rate: str) -> None:
    rules = parse_rules(f'[[rule]]\nname = "r"\nbucket = {{ rate = "{rate}", burst = {burst} }}\n')
    (rule,) = rules.rules
    peaks = named([logs.chunk(map(logs.realtime, made))], rules)
    times = defaultdict(list)
    for hit in made:
        times[logs.network(rule, hit.client)].append(hit.ms)
    slots = {client: [ms // rule.slot_ms for ms in own] for client, own in times.items()}
    assert peaks.keys() == {client for client, own in slots.items() if exceeds_in_slots(rule, own)}
    for client in peaks:
        assert exceeds(rule, times[client], longest_ms=rule.window_s * 1000, margin_ms=0)
