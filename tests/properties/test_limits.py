"""G1 (never early) and G2 (never missed) against raw timestamps: any clients, times, rules, shards, batches, orders."""

from collections import defaultdict
from dataclasses import dataclass
from ipaddress import ip_network

from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.bootstrap import Services, World, compose
from chalicelib.config import read_config
from chalicelib.core.rules import Rule
from chalicelib.core.rules_toml import parse_rules
from chalicelib.core.state.detections import Detection
from chalicelib.core.state.rule_sets import ACTIVE, StoredRules
from chalicelib.pipeline.ingest import Batch
from chalicelib.pipeline.stored import State
from sluice.local.stores import MemoryStateStore, MemoryTallyLogs
from sluice.local.telemetry import ReportTotals
from tests.support.buckets import exceeds

NOW_MS = 1_760_000_000_000
PATHS = ["/a", "/b", "/c", "/d"]
CLIENTS = ["192.0.2.1", "192.0.2.2", "192.0.3.1", "2001:db8::1", "2001:db8::2"]

RESOLUTIONS = ["10", "20", "25", "100", '"exact"']


Made = tuple[str, int, str]


@dataclass(frozen=True)
class Delivered:
    """One batch: requests (client, time and path), its shard, and the container it goes to."""

    requests: list[Made]
    shard: int
    container: int


@st.composite
def rule_texts(draw: st.DrawFn) -> str:
    rules = []
    for number in range(draw(st.integers(1, 4))):
        window_s = draw(st.sampled_from([1, 2, 3, 6, 10, 60, 3600]))
        ipv4, ipv6 = draw(st.sampled_from([24, 32, 32])), draw(st.sampled_from([64, 128]))
        allowed = f'limit = {draw(st.integers(0, 4))}\nwindow = "{window_s}s"\n'
        if draw(st.booleans()):
            rate, burst = draw(st.sampled_from(["1/s", "2/3s", "1/10s", "1/m"])), draw(st.integers(1, 4))
            allowed = f'bucket = {{ rate = "{rate}", burst = {burst} }}\n'
        resolution = draw(st.sampled_from(RESOLUTIONS))
        if "bucket" not in allowed and resolution != RESOLUTIONS[-1] and ipv6 == 64 and draw(st.booleans()):
            allowed += 'distinct = "path"\n'
        rules.append(
            f'[[rule]]\nname = "r{number}"\n{allowed}'
            f"resolution = {resolution}\n"
            f"aggregate = {{ ipv4 = {ipv4}, ipv6 = {ipv6} }}\n"
        )
    return "\n".join(rules)


@st.composite
def traffic(draw: st.DrawFn) -> list[Delivered]:
    """Bunches of requests, whose spans lie near the windows' lengths, in batches of any cut and any order."""
    requests: list[Made] = []
    for _ in range(draw(st.integers(1, 4))):
        client = draw(st.sampled_from(CLIENTS))
        start = NOW_MS - draw(st.sampled_from([0, 5_000, 400_000, 3_300_000])) - draw(st.integers(0, 3_000))
        span = draw(st.sampled_from([0, 989, 990, 999, 1000, 1980, 1999, 5_940, 6_000, 9_899, 9_900, 59_400, 200_000]))
        inside = draw(st.lists(st.integers(0, span), max_size=5))
        requests += [(client, start - back, draw(st.sampled_from(PATHS))) for back in [0, span, *inside]]
    requests = draw(st.permutations(requests))
    batches = []
    while requests:
        size = draw(st.integers(1, 5))
        batches.append(Delivered(requests[:size], draw(st.integers(0, 3)), draw(st.integers(0, 5))))
        requests = requests[size:]
    return batches


def in_a_span(made: list[tuple[int, str]], rule: Rule, number: int, longest_ms: int) -> bool:
    """Returns whether ``number`` of the requests ``made``, or that many different paths if ``rule`` counts these, lie
    within some span of at most ``longest_ms``, both ends included."""
    for first, _ in made:
        paths = [path for time, path in made if first <= time <= first + longest_ms]
        if len(set(paths) if rule.measure.is_distinct else paths) >= number:
            return True
    return False


@settings(max_examples=400)
@given(text=rule_texts(), batches=traffic(), sample_rate=st.sampled_from([100, 100, 50, 33]))
def test_a_client_is_detected_if_and_only_if_it_was_over_a_limit(
    text: str, batches: list[Delivered], sample_rate: int
) -> None:
    rules = parse_rules(text).rules
    found = detected(text, batches, sample_rate)
    for rule in rules:
        requests: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for batch in batches:
            for client, time, path in batch.requests:
                requests[client_of(client, rule)].append((time, path))
        for client, made in requests.items():
            if not may_be_over(rule, made, sample_rate):
                assert (rule.name, client) not in found, "G1: blocked early"
            if must_be_over(rule, made, sample_rate):
                assert (rule.name, client) in found, "G2: missed"
        assert {client for name, client in found if name == rule.name} <= requests.keys()


def may_be_over(rule: Rule, made: list[tuple[int, str]], sample_rate: int) -> bool:
    window_ms = rule.window_s * 1000
    if rule.rate is not None:
        times = [time for time, _ in made]
        return exceeds(rule, times, longest_ms=window_ms - 1, margin_ms=0, percent=sample_rate)
    return in_a_span(made, rule, rule.limit * sample_rate // 100 + 1, window_ms - 1)


def must_be_over(rule: Rule, made: list[tuple[int, str]], sample_rate: int) -> bool:
    window_ms, slot_ms = rule.window_s * 1000, rule.slot_ms
    if rule.rate is not None:
        longest_ms, times = window_ms - 2 * slot_ms, [time for time, _ in made]
        return exceeds(rule, times, longest_ms=longest_ms, margin_ms=2 * slot_ms, percent=sample_rate)
    return in_a_span(made, rule, rule.limit * sample_rate // 100 + 1, window_ms - slot_ms)


def client_of(address: str, rule: Rule) -> str:
    return str(ip_network(f"{address}/{rule.ipv6_prefix if ':' in address else rule.ipv4_prefix}", strict=False))


def detected(text: str, batches: list[Delivered], sample_rate: int) -> set[tuple[str, str]]:
    """Rule and client of everything that real containers detect; numbers 0 and 1 are cold at every batch."""
    state, tally_logs = MemoryStateStore(), MemoryTallyLogs()
    State(state).overwrite(StoredRules(text=text), id=ACTIVE)
    config = read_config(
        {"CLOUDFRONT_FIELDS": "timestamp,c-ip,cs-uri-stem", "SAMPLE_RATE": str(sample_rate), "LATENESS_S": "10"}
    )
    world = World(
        tally_logs=tally_logs,
        state=state,
        ip_sets=None,  # type: ignore[arg-type]
        clock=lambda: NOW_MS / 1000,
        sleep=lambda seconds: None,
        telemetry=ReportTotals(),
    )
    warm: dict[int, Services] = {}
    for number, batch in enumerate(batches):
        cold = batch.container < 2
        container = compose(config, world) if cold else warm.setdefault(batch.container, compose(config, world))
        data = [f"{time / 1000:.3f}\t{client}\t{path}".encode() for client, time, path in batch.requests]
        first = number * 1000 + 1
        container.ingest.run(
            Batch(
                f"logs/shard-{batch.shard}",
                list(map(str, range(first, first + len(data)))),
                data,
                [NOW_MS / 1000] * len(data),
            ),
            NOW_MS,
        )
        if number % 3 or number == len(batches) - 1:  # some rings come late, for several items at once
            container.evaluate.run(NOW_MS)
    return {
        (detection.terms.name, offender.network)
        for change in state.changes
        if change.new is not None and change.new.kind == Detection.kind
        for detection in [Detection.from_json(change.new.body)]
        for offender in detection.offenders
    }
