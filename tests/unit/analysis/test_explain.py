"""The figures in a client's history are those that replay counts."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.core.addresses import parse_network
from sluice.analysis.explain import NearMiss, explain, near_misses
from sluice.analysis.summary import offenders
from sluice.replay.engine import Options, replay
from tests.support import replay_logs as logs
from tests.support.replay_logs import T0, Hit, hits, one_rule, rules_of

RULE = 'name = "r"\nlimit = 5\nwindow = "1s"\nblock_for = "10s"'


@pytest.mark.slow
@given(
    hits,
    st.integers(0, 4),
    st.sampled_from(["192.0.2.1", "2001:db8::1", "192.0.2.0/24"]),
    st.sampled_from(["", 'aggregate = { by = ["path"] }']),
)
@settings(max_examples=80, deadline=None)
def test_explain_agrees_with_replay(made: list[Hit], limit: int, client: str, more: str) -> None:
    made = [replace(hit, path=f"/{number % 2}") for number, hit in enumerate(made)]
    rules = one_rule(limit, more=more)
    chunk = logs.chunk(map(logs.realtime, made))
    (result,) = replay([chunk], [rules], Options())
    (history,) = explain([chunk], rules, Options(), parse_network(client)).rules
    own = [o for o in offenders(result) if o.network.overlaps(history.network)]
    assert (history.first_over_ms is not None) == bool(own)
    if own:
        assert history.peak == max(offender.peak for offender in own)
        assert sorted(history.periods, key=repr) == sorted((p for o in own for p in o.periods), key=repr)
    else:
        assert history.peak <= limit


def test_a_client_is_explained_as_the_network_that_its_rule_counts() -> None:
    rules = rules_of(RULE + "\naggregate = { ipv6 = 48 }")
    made = [Hit(T0, "2001:db8:0:1::1"), Hit(T0, "2001:db8:0:2::1"), Hit(T0, "2001:db8:1::1")]
    history = explain([logs.chunk(map(logs.realtime, made))], rules, Options(), parse_network("2001:db8::1"))
    assert len(history.requests) == 2
    assert str(history.rules[0].network) == "2001:db8::/48"


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        pytest.param([(0, 3)], [], id="under four fifths"),
        pytest.param([(0, 4), (1, 5), (2, 4)], [(5, 1)], id="the highest of several"),
        pytest.param([(0, 4), (1000, 4)], [(4, 0), (4, 1000)], id="a window apart"),
        pytest.param([(0, 4), (1, 6), (2, 4)], [], id="over the limit is no near miss"),
    ],
)
def test_a_near_miss_is_the_highest_count_of_a_time_within_the_limit(
    counts: list[tuple[int, int]], expected: list[tuple[int, int]]
) -> None:
    (rule,) = rules_of(RULE).rules
    assert list(near_misses(counts, rule)) == [NearMiss(*near) for near in expected]
