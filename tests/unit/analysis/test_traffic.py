"""The profile of the traffic agrees with the requests made and refused."""

from sluice.analysis.traffic import profiled
from sluice.replay.engine import Options, spooled
from tests.support import replay_logs as logs
from tests.support.replay_logs import T0, every, rules_of


def test_traffic_and_refusals_add_up() -> None:
    rules = rules_of(
        'name = "fine"\nlimit = 5\nwindow = "1s"\nblock_for = "10s"',
        'name = "posts"\nlimit = 3\nwindow = "1m"\naction = "count"',
    )
    made = [*every(0.1, 0, 20), *every(2, 0, 100, "198.51.100.1"), *every(5, 0, 100, "2001:db8::1")]
    with spooled([logs.chunk(map(logs.realtime, made))], [rules], Options(), everyone=True) as log:
        result, profile = profiled(log, rules)
    assert sum(profile.by_ten_s.values()) == len(made)
    assert {name: sum(peaks.values()) for name, peaks in profile.peaks.items()} == {"fine": 3, "posts": 3}
    refused = {b.rule.name: b.refused_by_ten_s for b in result.breaches if str(b.network) == "192.0.2.1/32"}
    assert refused["fine"] == {T0 // 10_000: 90, T0 // 10_000 + 1: 90}, "all but the first second and second 11"
