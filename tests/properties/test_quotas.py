"""Quotas: G1 (never early), G2 (never missed) and G3 (counted once) against raw timestamps, whatever fails, and however
many containers evaluate them."""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.bootstrap import World, compose
from chalicelib.config import read_config
from chalicelib.core import roll_ups
from chalicelib.core.rules import Rule
from chalicelib.core.rules_toml import parse_rules
from chalicelib.core.state.detections import Detection
from chalicelib.core.state.rule_sets import ACTIVE, StoredRules
from chalicelib.core.tally import RETENTION_S, kept_s
from chalicelib.pipeline import quotas
from chalicelib.pipeline.ingest import Batch
from chalicelib.pipeline.stored import State
from chalicelib.ports import LogItem, LogKey, Registry, RollUp, Unavailable
from sluice.local.stores import MemoryRollUps, MemoryStateStore, MemoryTallyLogs
from sluice.local.telemetry import ReportTotals

START_MS = 1_760_000_000_000
MINUTE_MS = 60_000
CLIENTS = ["192.0.2.1", "192.0.3.1", "2001:db8::1"]
CONTAINERS = 3
"""The last of them is cold at each step."""

T = TypeVar("T")


@dataclass
class Faults:
    """Lets one call in each ``every`` fail, before it takes effect or after it has; none if 0."""

    every: int = 0
    calls: int = 0

    def around(self, call: Callable[[], T]) -> T:
        self.calls += 1
        hit = bool(self.every) and self.calls % self.every == 0
        if hit and self.calls // self.every % 2:
            raise Unavailable("failed")
        outcome = call()
        if hit:
            raise Unavailable("failed afterwards")
        return outcome


class FailingLogs(MemoryTallyLogs):
    faults: Faults

    def read(self, keys: Collection[LogKey]) -> tuple[Registry, Mapping[LogKey, LogItem]]:
        return self.faults.around(lambda: super(FailingLogs, self).read(keys))


@dataclass
class FailingRollUps(MemoryRollUps):
    faults: Faults

    def __post_init__(self) -> None:
        super().__init__()

    def add(self, roll_up: RollUp, bodies: Sequence[bytes]) -> None:
        self.faults.around(lambda: super(FailingRollUps, self).add(roll_up, bodies))

    def latest(self, written_since_ms: int) -> Sequence[RollUp]:
        return self.faults.around(lambda: super(FailingRollUps, self).latest(written_since_ms))

    def bodies(self, roll_up: RollUp) -> Sequence[bytes]:
        return self.faults.around(lambda: super(FailingRollUps, self).bodies(roll_up))


@dataclass(frozen=True)
class Step:
    """Requests that are ingested at a time, and the containers that then evaluate the quotas, in order."""

    minutes: int
    """Time since the step before."""
    requests: list[tuple[str, int]] = field(default_factory=list)
    """Client, and milliseconds before the step."""
    shard: int = 0
    containers: list[int] = field(default_factory=list)


STEPS = st.lists(
    st.builds(
        Step,
        minutes=st.sampled_from([1, 7, 59, 61, 100]),
        requests=st.lists(
            st.tuples(
                st.sampled_from(CLIENTS),
                st.sampled_from([0, 1, 450_000, 900_000, 3_599_000]),
            ),
            max_size=2,
        ),
        shard=st.integers(0, 2),
        containers=st.lists(st.integers(0, CONTAINERS - 1), min_size=1, max_size=2),
    ),
    min_size=18,
    max_size=50,
)


@settings(max_examples=12)
@given(
    limits=st.tuples(st.integers(0, 5), st.integers(0, 9)),
    steps=STEPS,
    every=st.sampled_from([0, 2, 3, 5, 11]),
    most=st.sampled_from([1, 4, 500_000]),
)
def test_a_client_is_over_a_quota_if_and_only_if_its_requests_were(
    limits: tuple[int, int], steps: list[Step], every: int, most: int
) -> None:
    """``most``: entries that are added up, or evaluated together, at most."""
    text = "".join(
        f'[[rule]]\nname = "q{days}"\nlimit = {limit}\nwindow = "{days}d"\n'
        for days, limit in zip((1, 2), limits, strict=True)
    )
    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((quotas, "MOST_PENDING"), (quotas, "SLICE"), (roll_ups, "PIECE")):
            patch.setattr(module, name, most)
        over = detected(text, steps, every)
    made: dict[str, list[int]] = defaultdict(list)
    for at_ms, step in zip(times(steps), steps, strict=True):
        for client, back in step.requests:
            made[client.replace("::1", "::")].append(at_ms - back)
    for rule in parse_rules(text).rules:
        for client, requests in made.items():
            network = f"{client}/{64 if ':' in client else 32}"
            if not exceeds(rule, requests, rule.window_s * 1000 - 1):
                assert (rule.name, network) not in over, "G1: blocked early"
            if exceeds(rule, requests, rule.window_s * 1000 - rule.slot_ms):
                assert (rule.name, network) in over, "G2: missed"


def times(steps: list[Step]) -> list[int]:
    return [START_MS + minutes * MINUTE_MS for minutes in accumulate(step.minutes for step in steps)]


def exceeds(rule: Rule, requests: list[int], longest_ms: int) -> bool:
    """Returns whether more requests than the limit lie within some span of at most ``longest_ms``."""
    return any(sum(first <= time <= first + longest_ms for time in requests) > rule.limit for first in requests)


def detected(text: str, steps: list[Step], every: int) -> set[tuple[str, str]]:
    """Returns rule and client of everything that containers detect, one call in each ``every`` of which fails."""
    faults = Faults(every)
    state, logs, roll_ups = MemoryStateStore(), FailingLogs(), FailingRollUps(faults)
    logs.faults = Faults()
    State(state).overwrite(StoredRules(text=text), id=ACTIVE)
    now_ms = START_MS
    world = World(
        tally_logs=logs,
        state=state,
        ip_sets=None,  # type: ignore[arg-type]
        clock=lambda: now_ms / 1000,
        sleep=lambda seconds: None,
        telemetry=ReportTotals(),
        roll_ups=roll_ups,
    )
    config = read_config({"CLOUDFRONT_FIELDS": "timestamp,c-ip"})
    ingest, warm = compose(config, world).ingest, [compose(config, world) for _ in range(CONTAINERS - 1)]
    faults.every = 0
    warm[0].quotas.run(now_ms)  # counting begins
    faults.every = every
    for number, (step, now) in enumerate(zip(steps, times(steps), strict=True)):
        now_ms = now
        if step.requests:
            data = [f"{(now_ms - back) / 1000:.3f}\t{client}".encode() for client, back in step.requests]
            sequences = [str(number * 1000 + each) for each in range(1, 1 + len(data))]
            ingest.run(Batch(f"logs/shard-{step.shard}", sequences, data, [now_ms / 1000] * len(data)), now_ms)
        for container in step.containers:
            services = compose(config, world) if container == CONTAINERS - 1 else warm[container]
            logs.faults = faults
            try:
                services.quotas.run(now_ms)
            except Unavailable:
                # The next sweep tries again; this one is no later than the items are kept.
                logs.faults, faults.every = Faults(), 0
                compose(config, world).quotas.run(now_ms)
                faults.every = every
            logs.faults = Faults()
        logs.expire(now_ms - kept_s(RETENTION_S) * 1000)
        roll_ups.expire(now_ms)
    faults.every = 0
    compose(config, world).quotas.run(now_ms)
    return {
        (detection.terms.name, offender.network)
        for change in state.changes
        if change.new is not None and change.new.kind == Detection.kind
        for detection in [Detection.from_json(change.new.body)]
        for offender in detection.offenders
    }
