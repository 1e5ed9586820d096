"""Examples for the OpenAPI document, one per form and answer, as instances of the structs themselves."""

from msgspec.structs import asdict

from chalicelib.admin import rule_sets, schemas
from chalicelib.admin.allowlist import AllowChange, AllowPage
from chalicelib.admin.audit import AuditPage, AuditView
from chalicelib.admin.blocks import BlockChange, BlockPage, BlockView, UnblockChange
from chalicelib.admin.breakers import BreakerChange, BreakerStatus, StoppedRule
from chalicelib.admin.busiest import Busiest, Busy, Top
from chalicelib.admin.changes import ChangeAnswer
from chalicelib.admin.clients import ClientReport, Count, PastView
from chalicelib.admin.control import PauseChange
from chalicelib.admin.feeds import FeedList
from chalicelib.admin.history import EventView, HistoryPage
from chalicelib.admin.malformed import MalformedPieces
from chalicelib.admin.rule_sets import RulesAnswer, RulesPlan, VersionPage, VersionView
from chalicelib.admin.series import Point, Series
from chalicelib.admin.status import (
    BlocksStatus,
    IngestStatus,
    ResponseBlocks,
    RuleBlocks,
    RulesStatus,
    SetsStatus,
    Status,
    SweepStatus,
)
from chalicelib.admin.trends import TrafficSum, TrendPoint, Trends
from chalicelib.admin.unreadable import UnreadableView
from chalicelib.api.routes import Health, Me
from chalicelib.core.addresses import NetworkSet
from chalicelib.core.durations import utc_text
from chalicelib.core.logs.requests import Source
from chalicelib.core.portraits import Portrait
from chalicelib.core.responses import Response
from chalicelib.core.rules import Action, Rule
from chalicelib.core.rules_diff import DiffKind, RuleDiff
from chalicelib.core.sampling import Sampling, sampling_notes
from chalicelib.core.state.allowlist import Allow
from chalicelib.core.state.blocks import Block
from chalicelib.core.state.detections import Evidence
from chalicelib.core.state.feeds import Feed
from chalicelib.core.state.operators import Call, EarlierRule, Pause, Placed, WebAcls
from chalicelib.core.state.records import Unreadable
from chalicelib.core.state.rule_sets import StoredRules
from chalicelib.core.tokens import Role

_NOW = 1_790_000_000
_HOUR_AGO = _NOW - 3600
_QUARTER = _NOW // 900 * 900
_traffic = TrafficSum(
    measured_s=900, requests=731_250, refused=8_120, offences=14, blocks=12, most_blocked=12, more=False
)
_quiet = TrafficSum(measured_s=900, requests=702_114, refused=0, offences=0, blocks=0, most_blocked=0, more=False)
_CLIENT = "203.0.113.9/32"
_OFFICE = "198.51.100.0/24"
_TOML = '[[rule]]\nname = "burst"\nlimit = {}\nwindow = "5s"\n'
_ESCALATE = 'escalate = { factor = 2, max = "1d", memory = "7d" }\n'
_LOG = Source.CLOUDFRONT
_DAMAGED = Unreadable("allow", "192.0.2.77/24", "'192.0.2.77/24' has host bits set; the network is 192.0.2.0/24")
_DAMAGED_BODY = '{"network":"192.0.2.77/24","comment":"office"}'

_evidence = Evidence(
    rule="burst",
    count=73,
    limit=50,
    window_s=5,
    first_ms=_NOW * 1000 - 65_000,
    last_ms=_NOW * 1000 - 61_000,
    source=_LOG,
    detection="sluice-logs/shardId-000000000000@1789990000000/000000000041/burst/cloudfront",
    arrived_ms=_NOW * 1000 - 60_000,
    portrait=Portrait(
        requests=12,
        lines={"GET www.example.com/search 200": 12},
        paths={"/search": 12},
        hosts={"www.example.com": 12},
        methods={"GET": 12},
        statuses={"200": 12},
        user_agents={"curl/8.5.0": 12},
        countries={"DE": 12},
        asns={"64500": 12},
    ),
)
_block = Block(
    network=_CLIENT,
    rule="burst",
    blocked_at=_NOW - 60,
    until=_NOW + 540,
    offence=1,
    evidence=_evidence.without_portrait(),
)
_manual = Block(network=_CLIENT, blocked_at=_NOW, until=_NOW + 3600, comment="scraper", by="alice")
_shown = BlockView.of(_block, NetworkSet(()), _NOW)
_past = PastView(network=_CLIENT, rule="burst", offence=1, until=_NOW + 540, outcome="blocked", evidence=_evidence)
_feed = Feed(
    name="bingbot",
    url="https://www.bing.com/toolbox/bingbot.json",
    checked_at=_HOUR_AGO,
    changed_at=_HOUR_AGO,
    networks=28,
)
_allow = Allow(network=_OFFICE, comment="office", by="alice", added_at=_NOW)
_rule = Rule(name="burst", limit=50, window_s=5)
_count = Count.under(_rule, _LOG, network=_CLIENT, count=12, to_ms=_NOW * 1000)
_diff = RuleDiff("burst", DiffKind.CHANGED, ["limit: 50 becomes 60"])
_version = VersionView(version=3, active=True, rules=4, saved_at=_HOUR_AGO, by="alice", comment="")
_busy = Busy(network=_CLIENT, count=73, blocked_until=_NOW + 540, allowlisted=False)
_busiest = Busiest.under(_rule, _LOG, from_ms=_NOW * 1000 - 6000, to_ms=_NOW * 1000 - 1000, clients=[_busy])
_again = {"network": _CLIENT, "block_for": "9m", "comment": "again: burst", "force": True}
_reblock = Call(method="POST", path="/v1/blocks", body={"blocks": [_again]})
_change = AuditView(
    id=f"{_NOW}000-5f3a9c21",
    at_ms=_NOW * 1000,
    by="alice",
    address="198.51.100.4",
    request="f2f7c4a2-5a0c-4a53-9f7d-5c8f6d1f3d11",
    action="block.delete",
    target=_CLIENT,
    detail=f"{_CLIENT} is no longer blocked; requests made so far do not count again",
    undo=_reblock,
)

_event = EventView(
    id=f"{_NOW - 60}000-5f3a9c210d8e7b64/0",
    at=_NOW - 60,
    outcome="blocked",
    network=_CLIENT,
    rule="burst",
    detail=_shown.reason,
    since=None,
    until=_NOW + 540,
    response=Response.BLOCK,
    offence=1,
    evidence=_evidence,
    by="",
    comment="",
    number=1,
)

_MALFORMED = MalformedPieces(
    source="cloudfront",
    reason="fields",
    number=1728,
    problem="1,728 lines have 12 fields where CLOUDFRONT_FIELDS names 9",
    remedy="Set CLOUDFRONT_FIELDS to the fields that the real-time log configuration selects",
    sample="1790000000.123\\t203.0.113.9\\t200",
)

_office_rule = EarlierRule(
    name="office", priority=0, effect="allows requests, also those of blocked clients", may_allow=True
)

_EXAMPLES = (
    schemas.Nothing(),
    schemas.NewAllow(network=_OFFICE, comment="office"),
    schemas.NewAllows(
        entries=[schemas.NewAllow(network="192.0.2.0/24", comment="crawler", rules=["burst"])], remove=[_OFFICE]
    ),
    schemas.NewBlock(network="203.0.113.9", block_for="1h", comment="scraper"),
    schemas.NewBlocks(
        blocks=[schemas.NewBlock(network=name, block_for="1h") for name in ("203.0.113.9", "2001:db8:0:1::/64")]
    ),
    schemas.RulesText(text=_TOML.format(50)),
    schemas.NewRules(text=_TOML.format(60), comment="shop launch"),
    schemas.Rollback(version=1),
    schemas.RuleEdit(rule="login", action=Action.BLOCK, comment="a week without a false positive"),
    schemas.NewPause(until=_NOW + 1800, comment="load test"),
    schemas.BreakerReset(),
    schemas.UnreadableRecord(kind="allow", id=_DAMAGED.id, body=_DAMAGED_BODY),
    Health(),
    Me(name="alice", role=Role.OPERATOR, address="198.51.100.4"),
    Status(
        now=_NOW,
        pause=Pause(),
        breaker=BreakerStatus(
            open=True,
            at=_HOUR_AGO,
            would_block=1204,
            stopped=[StoppedRule(rule="burst", stopped_at=_HOUR_AGO, would_hit=1204, known=18_200, clients=[_CLIENT])],
        ),
        blocks=BlocksStatus(
            active=3,
            ipv4=2,
            ipv6=1,
            withheld=0,
            overflow=0,
            merged=0,
            by_response=[ResponseBlocks(Response.BLOCK, 3)],
            by_rule=[RuleBlocks("burst", 2), RuleBlocks("manual", 1)],
        ),
        ip_sets=[
            SetsStatus(family=family, response=Response.BLOCK, networks=blocks, capacity=10_000)
            for family, blocks in ((4, 2), (6, 1))
        ],
        allowlist=1,
        rules=RulesStatus(version=3, rules=4, blocking=3, saved_at=_HOUR_AGO, by="alice", problem=None),
        sweep=SweepStatus(at=_NOW - 20, age_s=20),
        unreadable=(_DAMAGED,),
        web_acls=WebAcls(at=_HOUR_AGO, web_acls=(Placed(web_acl="shop", place=3, rules=4, before=(_office_rule,)),)),
        ingest=IngestStatus(
            malformed=[_MALFORMED],
            malformed_share=0.0024,
            late=40,
            requests_per_second=812.5,
            lag_ms=1400,
            counted_at=_NOW - 1,
            shards=2,
        ),
    ),
    FeedList(now=_NOW, feeds=[_feed]),
    AllowPage(now=_NOW, entries=[_allow], next=None),
    AllowChange(
        changed=True,
        detail=f"{_OFFICE} is on the allowlist; lifted 1 block in it",
        undo=Call(method="DELETE", path="/v1/allowlist", query={"network": [_OFFICE]}),
        entry=_allow,
        lifted=["198.51.100.77/32"],
    ),
    ChangeAnswer(
        changed=True,
        detail=f"{_OFFICE} is off the allowlist",
        undo=Call(method="PUT", path="/v1/allowlist", body={"network": _OFFICE, "comment": "office"}),
    ),
    BlockPage(now=_NOW, total=1, blocks=[_shown], next=None),
    BlockChange(
        changed=True,
        detail=f"{_CLIENT} is blocked for 1h",
        undo=Call(method="DELETE", path="/v1/blocks", query={"network": [_CLIENT]}),
        blocks=[BlockView.of(_manual, NetworkSet(()), _NOW)],
    ),
    UnblockChange(changed=True, detail=_change.detail, undo=_reblock, lifted=[_shown]),
    ClientReport(
        now=_NOW,
        network=_CLIENT,
        blocked=True,
        blocks=[_shown],
        allowlist=[],
        history=[_past],
        lifted_at=None,
        allowlisted=False,
        blocks_inside=0,
        inside=[],
        counts=[_count],
        explain=[f"{_CLIENT} is blocked for another 9m: {_shown.reason}."],
    ),
    Top(now=_NOW, rules=[_busiest]),
    rule_sets.view(3, StoredRules(text=_TOML.format(50) + _ESCALATE, by="alice", saved_at=_HOUR_AGO), active=True),
    RulesPlan(
        version=3,
        changes=[_diff],
        detail="1 rule changed",
        notes=list(sampling_notes([Rule(name="login", limit=10, window_s=60)], Sampling(10))),
    ),
    RulesAnswer(
        changed=True,
        detail="version 4 is active: 1 rule changed",
        undo=Call(method="POST", path="/v1/rules/rollback", headers={"If-Match": '"4"'}, body={"version": 3}),
        version=4,
        changes=[_diff],
    ),
    VersionPage(now=_NOW, versions=[_version], next=None),
    PauseChange(
        changed=True,
        detail=f"paused until {utc_text(_NOW + 1800)}: rules block no new client; comment: load test",
        undo=Call(method="POST", path="/v1/resume", body={}),
        pause=Pause(paused=True, at=_NOW, by="alice", until=_NOW + 1800, comment="load test"),
    ),
    BreakerChange(
        changed=True,
        detail="the breaker is closed and stays closed for 10m; waiting offenders are blocked within a minute",
        undo=Call(method="POST", path="/v1/pause", body={"release": False}),
        breaker=BreakerStatus(at=_NOW, would_block=1204, ignore_until=_NOW + 600, by="alice"),
    ),
    UnreadableView(now=_NOW, kind="allow", id=_DAMAGED.id, reason=_DAMAGED.reason, body=_DAMAGED_BODY, expires_at=None),
    AuditPage(now=_NOW, records=[_change], next=None),
    HistoryPage(now=_NOW, since=_HOUR_AGO, events=[_event], next=None),
    Series(
        now=_NOW,
        step_s=10,
        points=[
            Point(at=_NOW - 10, requests=8120, refused=310, detections=1, blocks=1),
            Point(at=_NOW, requests=40, refused=0, detections=0, blocks=0),
        ],
    ),
    Trends(
        now=_NOW,
        since=_QUARTER - 900,
        until=_QUARTER,
        step_s=900,
        points=[TrendPoint(at=_QUARTER - 900, **asdict(_traffic))],
        total=_traffic,
        day_before=_quiet,
        week_before=_quiet,
    ),
)

EXAMPLES: dict[type, object] = {type(example): example for example in _EXAMPLES}
