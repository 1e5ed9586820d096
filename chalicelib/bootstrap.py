"""The composition root: builds the services. Only this module reads the clock and the environment."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

from chalicelib.admin.listed_blocks import ListedBlocks
from chalicelib.admin.live_counts import LiveCounts
from chalicelib.config import Config, read_config
from chalicelib.core.breaker import Limits
from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.proxies import proxies
from chalicelib.core.state.detections import Detection
from chalicelib.core.tokens import Token
from chalicelib.core.view import View
from chalicelib.edges.telemetry import PowertoolsTelemetry
from chalicelib.pipeline.active_rules import ActiveRules
from chalicelib.pipeline.announce import Announce
from chalicelib.pipeline.client_memory import ClientMemory
from chalicelib.pipeline.enforce import Enforce
from chalicelib.pipeline.evaluate import Evaluate
from chalicelib.pipeline.feeds import CheckFeeds
from chalicelib.pipeline.import_objects import ImportObjects
from chalicelib.pipeline.ingest import Ingest
from chalicelib.pipeline.log_reader import LogReader
from chalicelib.pipeline.log_writer import LogWriter
from chalicelib.pipeline.publish import Publish
from chalicelib.pipeline.quotas import Quotas
from chalicelib.pipeline.stored import State
from chalicelib.pipeline.sweep import Sweep
from chalicelib.pipeline.trending import AddUp
from chalicelib.pipeline.warning import Warnings
from chalicelib.ports import (
    Announcements,
    Feeds,
    IpSets,
    LogObject,
    LogObjects,
    RollUp,
    RollUps,
    StateStore,
    TallyLogs,
    Telemetry,
    Unavailable,
)

DETECTIONS_KEPT_S = 7 * 86400


class NoObjects:
    """``LogObjects`` of a world without buckets."""

    def blocks(self, object: LogObject) -> Iterator[bytes]:
        raise Unavailable(f"{object}: no bucket can be read here")


class NoFeeds:
    """``Feeds`` of a world without a network."""

    def read(self, url: str) -> bytes:  # noqa: ARG002
        raise Unavailable("no feed can be read here")


class NoRollUps:
    """``RollUps`` of a world without quotas."""

    def add(self, roll_up: RollUp, bodies: Sequence[bytes]) -> None:  # noqa: ARG002
        raise Unavailable("no roll-up can be written here")

    def latest(self, written_since_ms: int) -> Sequence[RollUp]:  # noqa: ARG002
        raise Unavailable("no roll-up can be read here")

    def bodies(self, roll_up: RollUp) -> Sequence[bytes]:
        raise Unavailable(f"roll-up {roll_up.number} cannot be read here")


CONTAINER_MB = 500
"""Memory of a container without its view: the interpreter, its libraries, and the tallies being read."""

LIVE_ENTRIES = 1_000_000
"""Most entries of the admin API's view. Listing the busiest clients briefly takes up to 400 bytes per entry."""

QUOTA_CONTAINER_MB = 250
"""Memory of the container that evaluates quotas without its view: the tallies that it reads are those of a minute."""

PAST_SHARE = 4
"""The evaluator's view of the past holds at most one entry for this many in its other view. Most entries take less than
half of ENTRY_BYTES, so there is room for it."""

ENTRY_BYTES = 40
"""Most bytes of an entry in a view, for IPv6 clients and rules with windows of several lengths."""


@dataclass(frozen=True, slots=True)
class World:
    """Everything outside the use cases. ``clock`` returns epoch seconds; ``sleep`` waits for a number of seconds."""

    tally_logs: TallyLogs
    state: StateStore
    ip_sets: IpSets
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    telemetry: Telemetry
    tokens: Callable[[], tuple[Token, ...]] = lambda: ()
    """Returns the stored tokens of the admin API; by default there are none."""
    objects: LogObjects = field(default_factory=NoObjects)
    feeds: Feeds = field(default_factory=NoFeeds)
    roll_ups: RollUps = field(default_factory=NoRollUps)
    memory_mb: int | None = None
    """Memory of the function; None if it is not limited."""
    announcements: Announcements | None = None
    """The receiver of announcements, in addition to the log."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The classes that ``compose`` builds services from. Simulations replace a class with one that breaks a duty."""

    decoder: type[BatchDecoder] = BatchDecoder
    view: type[View] = View
    writer: type[LogWriter] = LogWriter
    reader: type[LogReader] = LogReader
    ingest: type[Ingest] = Ingest
    import_objects: type[ImportObjects] = ImportObjects
    evaluate: type[Evaluate] = Evaluate
    enforce: type[Enforce] = Enforce
    announce: type[Announce] = Announce
    publish: type[Publish] = Publish
    sweep: type[Sweep] = Sweep
    add_up: type[AddUp] = AddUp
    check_feeds: type[CheckFeeds] = CheckFeeds
    quotas: type[Quotas] = Quotas


PARTS = Parts()


@dataclass(frozen=True, slots=True)
class Services:
    """The use cases of one container."""

    config: Config
    world: World
    state: State
    ingest: Ingest
    import_objects: ImportObjects
    evaluate: Evaluate
    enforce: Enforce
    announce: Announce
    publish: Publish
    sweep: Sweep
    add_up: AddUp
    check_feeds: CheckFeeds
    quotas: Quotas
    blocks: ListedBlocks
    live: LiveCounts


def entries_that_fit(memory_mb: int | None, besides_mb: int = CONTAINER_MB) -> int:
    """Returns how many entries of a view fit into a function's memory, besides ``besides_mb``; at least 100,000.

    >>> entries_that_fit(1769), entries_that_fit(256), entries_that_fit(512, QUOTA_CONTAINER_MB)
    (31725000, 100000, 6550000)
    """
    return sys.maxsize if memory_mb is None else max(100_000, (memory_mb - besides_mb) * 1_000_000 // ENTRY_BYTES)


def compose(config: Config, world: World, parts: Parts = PARTS) -> Services:
    """Returns the services of a new container."""
    state = State(world.state)
    most = min(config.view_entries, entries_that_fit(world.memory_mb))
    new_view = partial(parts.view, sample_rate=config.sample_rate, most_entries=most)
    new_past_view = partial(new_view, most_entries=max(1, most // PAST_SHARE))
    most_of_quotas = min(config.view_entries, entries_that_fit(world.memory_mb, QUOTA_CONTAINER_MB))
    new_live_view = partial(new_view, most_entries=min(most, LIVE_ENTRIES))

    def detect(detections: Sequence[Detection]) -> None:
        expires_at = int(world.clock()) + DETECTIONS_KEPT_S
        state.overwrite(*detections, expires_at=expires_at)

    rules = ActiveRules(state)
    warnings = Warnings(state, config.history_s)
    # CloudFront's own web ACL and logs have the addresses of those who connect to it.
    spared = proxies() if config.waf_scope == "REGIONAL" and config.spare_proxies == "yes" else None
    decoder = parts.decoder(config.cloudfront_fields, config.trusted, config.json_fields)
    writer = parts.writer(world.tally_logs, retention_s=config.retention_s)
    return Services(
        config=config,
        world=world,
        state=state,
        ingest=parts.ingest(
            decoder=decoder,
            rules=rules.at,
            writer=writer,
            retention_s=config.retention_s,
            refusal_status=config.block_status,
            portraits_of=config.portraits_of,
        ),
        import_objects=parts.import_objects(
            objects=world.objects,
            decoder=decoder,
            rules=rules.at,
            logs=world.tally_logs,
            writer=writer,
            clock=world.clock,
            retention_s=config.retention_s,
            refusal_status=config.block_status,
            portraits_of=config.portraits_of,
        ),
        evaluate=parts.evaluate(
            logs=world.tally_logs,
            reader=parts.reader(
                world.tally_logs,
                new_view,
                new_past_view,
                lateness_ms=config.lateness_s * 1000,
                retention_s=config.retention_s,
            ),
            rules=rules.at,
            detect=detect,
            note=ClientMemory(state).note,
            warn=warnings.lines,
            retention_s=config.retention_s,
        ),
        enforce=parts.enforce(
            state=state,
            clock=world.clock,
            limits=Limits(config.breaker_share, config.breaker_pace),
            rules=rules.at,
            stale_after_s=config.stale_after_s,
            propagation_s=config.propagation_s,
            proxies=spared,
            history_s=config.history_s,
        ),
        announce=parts.announce(
            state=state, announcements=world.announcements, clock=world.clock, stage=config.service
        ),
        publish=parts.publish(
            state=state,
            rules=rules.at,
            ip_sets=world.ip_sets,
            sets=config.ip_sets,
            clock=world.clock,
            sleep=world.sleep,
            warn=warnings.full,
        ),
        sweep=parts.sweep(state=state, clock=world.clock, history_s=config.history_s),
        add_up=parts.add_up(state=state, logs=world.tally_logs, clock=world.clock),
        check_feeds=parts.check_feeds(
            state=state,
            feeds=world.feeds,
            rules=rules.at,
            clock=world.clock,
            proxies=spared,
            history_s=config.history_s,
        ),
        quotas=parts.quotas(
            logs=world.tally_logs,
            roll_ups=world.roll_ups,
            rules=rules.at,
            new_view=partial(new_view, most_entries=most_of_quotas, drops_at_once=False),
            detect=detect,
            retention_s=config.retention_s,
        ),
        blocks=ListedBlocks(state),
        live=LiveCounts(world.tally_logs, rules.at, new_live_view),
    )


@cache
def config() -> Config:
    """Returns the settings from this process's environment. Raises ConfigError."""
    return read_config(os.environ)


def aws(config: Config) -> World:
    """Returns the adapters for AWS, which use boto3."""
    import boto3  # noqa: PLC0415 - slow to import, and only needed on AWS
    from botocore.config import Config as ClientConfig  # noqa: PLC0415

    from chalicelib.edges.event_bus import EventBus  # noqa: PLC0415
    from chalicelib.edges.https_feeds import HttpsFeeds  # noqa: PLC0415
    from chalicelib.edges.roll_up_table import RollUpTable  # noqa: PLC0415
    from chalicelib.edges.s3_objects import S3Objects  # noqa: PLC0415
    from chalicelib.edges.state_table import StateTable  # noqa: PLC0415
    from chalicelib.edges.tally_table import TallyTable  # noqa: PLC0415
    from chalicelib.edges.tokens import FileTokens, ParameterTokens  # noqa: PLC0415
    from chalicelib.edges.waf_ip_sets import WafIpSets  # noqa: PLC0415

    client_config = ClientConfig(retries={"mode": "standard", "max_attempts": 5}, connect_timeout=2, read_timeout=10)
    dynamodb = boto3.client("dynamodb", config=client_config)
    waf_region = "us-east-1" if config.waf_scope == "CLOUDFRONT" else None
    # boto3 must not retry a throttled update: the publisher first checks whether it is still needed.
    waf_config = client_config.merge(ClientConfig(retries={"mode": "standard", "max_attempts": 1}))
    wafv2 = boto3.client("wafv2", region_name=waf_region, config=waf_config)
    # An outage of the bus must not hold up enforcement.
    bus_config = ClientConfig(retries={"mode": "standard", "max_attempts": 2}, connect_timeout=1, read_timeout=3)
    tokens = (
        FileTokens(Path(config.tokens_file))
        if config.tokens_file
        else ParameterTokens(boto3.client("ssm", config=client_config), config.tokens_parameter)
    )
    return World(
        tally_logs=TallyTable(dynamodb, config.tally_table),
        state=StateTable(dynamodb, config.state_table),
        ip_sets=WafIpSets(wafv2, config.waf_scope),
        clock=time.time,
        sleep=time.sleep,
        telemetry=PowertoolsTelemetry(config.service),
        tokens=tokens.read,
        # Only one function reads objects, and creating a client is slow.
        objects=S3Objects(lambda: boto3.client("s3", config=client_config)),
        announcements=EventBus(lambda: boto3.client("events", config=bus_config), config.event_bus)
        if config.event_bus
        else None,
        feeds=HttpsFeeds(),
        roll_ups=RollUpTable(dynamodb, config.tally_table),
        memory_mb=int(os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "0")) or None,
    )


_container: ContextVar[Services | None] = ContextVar("container", default=None)


@cache
def _deployed() -> Services:
    return compose(config(), aws(config()))


def services() -> Services:
    """Returns the services of the current container: those of ``running_in``, or AWS's, built on first use."""
    return _container.get() or _deployed()


@contextmanager
def running_in(container: Services) -> Iterator[None]:
    """Runs the body with ``container`` as the current one. The local cloud invokes the deployed handlers this way."""
    token = _container.set(container)
    try:
        yield
    finally:
        _container.reset(token)
