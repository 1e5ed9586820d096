"""The status: what is enforced and blocked, how full the IP sets are, and whether requests are being counted."""

from collections import Counter
from collections.abc import Sequence
from operator import attrgetter, itemgetter
from typing import Annotated

import msgspec

from chalicelib.admin.answers import TimedAnswer, at_most, one_of
from chalicelib.admin.breakers import BreakerStatus, breaker_status
from chalicelib.admin.listed_blocks import Listed, ListedBlocks
from chalicelib.admin.live_counts import LiveCounts
from chalicelib.admin.malformed import MalformedPieces, explained
from chalicelib.admin.rule_sets import rule_set
from chalicelib.core.ipsets import IpSet, SetGroup, Wanted, rooms_of
from chalicelib.core.responses import Response
from chalicelib.core.rules import Action
from chalicelib.core.rules_toml import MOST_FEEDS
from chalicelib.core.state.feeds import Feed
from chalicelib.core.state.operators import Pause, WebAcls
from chalicelib.core.state.records import MOST_UNREADABLE, Unreadable
from chalicelib.pipeline.inspection import still_unreadable
from chalicelib.pipeline.rule_breakers import stopped_rules
from chalicelib.pipeline.stored import State

RATE_MS = 60_000
"""Time over which requests per second are averaged."""

MOST_RULES_SHOWN = 1000

MOST_KINDS_SHOWN = 20
"""Most counts of malformed pieces shown."""


class RuleBlocks(msgspec.Struct, frozen=True):
    rule: str
    blocks: int


class ResponseBlocks(msgspec.Struct, frozen=True):
    response: Response
    blocks: int
    """Blocks whose response this is at the moment."""


class BlocksStatus(msgspec.Struct, frozen=True, kw_only=True):
    active: int
    ipv4: int
    ipv6: int
    withheld: int
    """Blocks of networks that are entirely on the allowlist, so that none of them is published."""
    overflow: int
    """Blocks that the IP sets of their response have no room for."""
    merged: int
    """Blocks of networks with fewer members than the rules ask for, because the IP sets were nearly full."""
    by_response: list[ResponseBlocks]
    """The hardest response first."""
    by_rule: Annotated[list[RuleBlocks], at_most(MOST_RULES_SHOWN)]
    """Most blocks first."""


class SetsStatus(msgspec.Struct, frozen=True, kw_only=True):
    """All IP sets of one response and family, as the next publish leaves them."""

    family: Annotated[int, one_of(4, 6)]
    response: Response
    networks: int
    """Networks that belong in the IP sets."""
    capacity: int
    """Networks that fit."""


class RulesStatus(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    rules: int
    blocking: int
    """Those of them that block at the moment; the others only count."""
    saved_at: int
    """Time it was saved. Epoch seconds."""
    by: str
    problem: str | None


class SweepStatus(msgspec.Struct, frozen=True, kw_only=True):
    at: int
    """Time of the last sweep. Epoch seconds."""
    age_s: int


class IngestStatus(msgspec.Struct, frozen=True, kw_only=True):
    requests_per_second: float = 0.0
    """Average of the requests logged over the last minute, not scaled up by the sample rate."""
    lag_ms: int | None = None
    """Age of the newest request when it was counted, on the slowest shard; null if none was counted within the last
    minute."""
    counted_at: int | None = None
    """Time at which requests were last counted; null if that was over a quarter of an hour ago. Epoch seconds."""
    shards: int = 0
    """Shards whose requests were counted within the last minute."""
    malformed: Annotated[list[MalformedPieces], at_most(MOST_KINDS_SHOWN)] = []
    """Pieces of the last quarter hour that were not requests, the most frequent first."""
    malformed_share: float = 0.0
    """Their share of all requests and malformed pieces of the last quarter hour, 0 to 1."""
    late: int = 0
    """Requests of the last quarter hour that were too old to count, because their log came too late."""
    problem: str | None = None
    """The reason why the counts cannot be read; null if they can."""


class Status(TimedAnswer, frozen=True, kw_only=True):
    pause: Pause
    breaker: BreakerStatus
    blocks: BlocksStatus
    ip_sets: Annotated[list[SetsStatus], at_most(10)]
    allowlist: int
    """Entries in force."""
    rules: RulesStatus
    sweep: SweepStatus | None
    ingest: IngestStatus
    feeds: Annotated[tuple[Feed, ...], at_most(2 * MOST_FEEDS)] = ()
    """The feeds, in order of name, as they were checked last."""
    unreadable: Annotated[tuple[Unreadable, ...], at_most(MOST_UNREADABLE)] = ()
    """Stored records that cannot be read and are skipped, as the last sweeps found them: the first 100."""
    web_acls: WebAcls = WebAcls()
    """Where Sluice's rules stand in web ACLs, as ``sluice setup`` or ``doctor`` last found it."""
    trends_at: int | None = None
    """Time up to which trends have been added up; null if they have not. More than half an hour ago, sweeps have failed
    to. Epoch seconds."""


def read_status(state: State, listed: ListedBlocks, live: LiveCounts, sets: Sequence[IpSet], now_ms: int) -> Status:
    """Returns the status; ``sets`` are all IP sets. If the tally logs are unreachable, the answer gives the reason."""
    now = now_ms // 1000
    pause, breaker, beat, web_acls, mark = state.controls(now)
    blocks = listed.in_force(now)
    exempt = state.exemptions(now)
    rooms = {SetGroup(Response.BLOCK, family): 0 for family in (4, 6)} | rooms_of(sets)
    planned = listed.wanted(exempt.networks, rooms, now)
    rules = rule_set(state)
    return Status(
        now=now,
        pause=pause,
        breaker=breaker_status(breaker, list(stopped_rules(state))),
        blocks=_blocks(blocks, planned, now),
        ip_sets=[
            SetsStatus(
                family=group.family,
                response=group.response,
                networks=0 if pause.released else len(planned.covers[group]),
                capacity=room,
            )
            for group, room in rooms.items()
        ],
        allowlist=len(exempt.entries),
        rules=RulesStatus(
            version=rules.version,
            rules=len(rules.rules),
            blocking=sum(rule.action == Action.BLOCK and rule.paused_until <= now for rule in rules.rules),
            saved_at=rules.saved_at,
            by=rules.by,
            problem=rules.problem,
        ),
        sweep=SweepStatus(at=beat.at, age_s=max(0, now - beat.at)) if beat else None,
        ingest=_ingest(live, now_ms),
        feeds=tuple(state.records(Feed)),
        unreadable=still_unreadable(state, beat.unreadable) if beat else (),
        web_acls=web_acls,
        trends_at=mark.at or None,
    )


def _blocks(blocks: Sequence[Listed], planned: Wanted, now: int) -> BlocksStatus:
    most_first = sorted(Counter(map(attrgetter("rule"), blocks)).items(), key=lambda pair: (-pair[1], pair[0]))
    applying = Counter[Response | None](map(attrgetter("response"), blocks))
    if applying.pop(None, 0):
        applying += Counter(block.response_at(now) for block in blocks if block.response is None)
    ipv6 = Counter(map(attrgetter("family"), blocks))[6]
    return BlocksStatus(
        active=len(blocks),
        ipv4=len(blocks) - ipv6,
        ipv6=ipv6,
        withheld=planned.allowlisted,
        overflow=planned.overflow,
        merged=sum(map(attrgetter("merged"), blocks)),
        by_response=[ResponseBlocks(each, applying[each]) for each in Response if applying[each]],
        by_rule=[RuleBlocks(*pair) for pair in most_first[:MOST_RULES_SHOWN]],
    )


def _ingest(live: LiveCounts, now_ms: int) -> IngestStatus:
    problem = live.problem(now_ms)
    if problem is not None:
        return IngestStatus(problem=problem)
    recent = {key: item for key, item in live.counting().items() if item.written_ms > now_ms - RATE_MS}
    newest = {log: item for (log, _), item in sorted(recent.items(), key=itemgetter(0))}
    malformed = sum(count.number for count in live.malformed)
    requests = sum(item.requests for item in live.items.values())
    lags = [max(0, item.written_ms - item.last_slot_ms) for item in newest.values()]
    return IngestStatus(
        requests_per_second=round(sum(item.requests for item in recent.values()) * 1000 / RATE_MS, 1),
        lag_ms=max(lags, default=None),
        counted_at=max((item.written_ms // 1000 for item in live.counting().values()), default=None),
        shards=len(newest),
        malformed=list(map(explained, live.malformed[:MOST_KINDS_SHOWN])),
        malformed_share=round(malformed / max(1, malformed + requests), 4),
        late=sum(item.late for item in live.items.values()),
    )
