"""Estimated monthly cost of a stage at a given rate of requests.

List prices of us-east-1, without free tiers, except for what AWS WAF's charges include in any case. Where a figure is
uncertain, the higher one is used. What the site pays without Sluice, for its web ACL and its requests, is not included.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, inf
from typing import Any

from chalicelib.core.state.trends import QUARTER_S
from chalicelib.pipeline.announce import MOST_PER_MINUTE
from chalicelib.pipeline.feeds import BLOCK_S, CHECK_S
from chalicelib.pipeline.quotas import FURTHEST_AHEAD
from sluice.deploy.sizing import VCPU_MB, evaluator_mb

SECONDS_PER_MONTH = 730 * 3600
GB = 1_000_000_000

PRICES: Mapping[str, float] = {
    "cloudfront.line": 0.01 / 1e6,
    "kinesis.on_demand.hour": 0.04,
    "kinesis.on_demand.gb_in": 0.08,
    "kinesis.on_demand.gb_out": 0.04,
    "kinesis.shard.hour": 0.015,
    "kinesis.put_unit": 0.014 / 1e6,
    "lambda.request": 0.20 / 1e6,
    "lambda.gb_s": 0.0000133334,
    "dynamodb.write_unit": 0.625 / 1e6,
    "dynamodb.read_unit": 0.125 / 1e6,
    "waf.rule": 1.0,
    "waf.rule_group": 1.0,
    "waf.excess_500_wcu": 0.20 / 1e6,
    "logs.gb_in": 0.50,
    "metric": 0.30,
    "alarm": 0.10,
    "dashboard": 3.0,
    "key": 1.0,
    "sqs.request": 0.40 / 1e6,
    "s3.get": 0.40 / 1e6,
    "events.custom": 1.00 / 1e6,
}
"""US dollars per unit. Lambda's price of a GB-second is for arm64; x86_64 costs a quarter more. A rule group is paid
for once per web ACL that refers to it, and capacity above ``INCLUDED_WCU`` with every request to the web ACL."""

VENDED_TIERS = ((10_000, 0.50), (20_000, 0.25), (20_000, 0.10), (inf, 0.05))
"""Price of a GB that AWS services log to CloudWatch Logs, by the GB of the month, in consecutive tiers."""

WAF_INCLUDED_BYTES = 500
"""Bytes of AWS WAF's log that the price of each inspected request includes: "500 MB ... per 1 million WAF requests"
(AWS WAF Developer Guide, "Pricing for web ACL traffic information")."""

INCLUDED_WCU, WCU_STEP = 1_500, 500
"""Capacity units of a web ACL that its price includes, and the units in each further step, which is charged once
started."""

SHARD_RECORDS_PER_S, SHARD_BYTES_PER_S = 1_000, 1_000_000
"""Records and bytes per second that a shard accepts. A CloudFront record holds one line."""

HEADROOM = 1.2
"""Capacity of provisioned shards as a multiple of the expected rate."""

ON_DEMAND_SHARDS = 4
"""Shards of a new on-demand stream, which accepts 4 MB per second. Later it accepts twice the peak of the last 30 days,
and grows to that; what comes faster is rejected (Kinesis Data Streams Developer Guide, "Quotas and limits")."""

PUT_UNIT = 25_000
"""Bytes of a record that count as one put."""

ON_DEMAND_ROUNDING = 1_000
"""Bytes to which an on-demand stream rounds up each record for billing."""

LINE_BYTES = {"cloudfront": 300, "waf": 1500, "cloudfront-standard": 600, "load-balancer": 1050, "api-gateway": 350}
"""Size of a line by source: of CloudFront's logs with the fields that setup selects; all but its real-time log
as JSON."""

ENVELOPE_LINES, ENVELOPE_RATIO = 20, 5
"""Lines that CloudWatch Logs puts into one record, and the factor by which gzip shrinks them."""

BATCHES_PER_S = 1.0
"""Batches per shard and second, because Lambda polls each shard once a second."""

TALLY_BYTES_PER_LINE = 4.0
"""Bytes of a packed tally per line: 2 to 3 were measured for large batches, and more with more clients."""

PORTRAIT_BYTES = 600
"""Bytes of the portraits in a tally: 500 to 600 were measured, in batches with four clients close to a limit."""

INVOCATION_S, LINE_S = 0.012, 0.000004
"""Seconds of ingest per batch and per line, measured on one full vCPU of x86_64."""

RINGS_PER_S = 16
"""Most invocations of evaluate per second: Lambda polls each shard of a table's stream four times per second, and the
stream of a new on-demand table has about four. There is at most one per tally."""

RING_S, RING_LINE_S = 0.015, 0.0000025
"""Seconds of evaluate per invocation and per line, measured likewise."""

INGEST_GB = VCPU_MB / 1024
METRICS = 46
OBJECT_METRICS = 3
ALARMS = 21
"""Alarms of a stage (sluice/deploy/monitoring.py), including the one for objects."""

OWN_LOG_BYTES = 700
"""Bytes that an invocation logs: its report in the embedded metric format (260 to 310 were measured while
nothing was wrong), and the lines in which Lambda reports start, end and duration."""

ANNOUNCEMENTS = 100_000
"""Announcements in a typical month: 1,600 blocks per day, and their ends."""

ATTACK_ANNOUNCEMENTS_PER_S = (4 * MOST_PER_MINUTE + 1) / 60
"""Most announcements per second, one by one and in summaries, by all four containers of enforce."""

ANNOUNCEMENT_BYTES = 1300
"""Bytes assumed for the log line of an announcement; 600 to 750 were measured, and 400 to 500 more with a portrait."""

OBJECT_LINES, PART_LINES = 10_000, 28_000
"""Lines of an object, fewer than a busy site's, and of a part of a large one."""

OBJECT_S = 0.05
"""Seconds of import_objects per object, besides those per line."""

QUEUE_POLLS_PER_S = 0.25
"""Requests of Lambda's five pollers, each of which waits 20 seconds for a message (Lambda Developer Guide, "Using
Lambda with Amazon SQS")."""

SWEEP_READ_UNITS, SWEEP_WRITE_UNITS = 150, 1
"""Units of a sweep and of what follows its heartbeat; 100 were counted for the sweep alone, which looks into each part
of the table for records that cannot be read."""

TREND_READ_UNITS, TREND_WRITE_UNITS = 30, 4
"""Units of adding up a quarter hour for trends, besides a read of each log."""

FEED_NETWORKS = 1_500
"""Networks of a feed that is assumed to block them, as many as large lists of harmful networks have."""

FEED_READ_UNITS, FEED_WRITE_UNITS = 10, 2
"""Units of a check, besides a read of each network's block."""

FEED_S, SWEEP_GB = 2.0, 512 / 1024
"""Seconds and memory of a check, most of which waits for the list."""

ROLL_UP_BYTES_PER_LINE = 0.3
"""Bytes of a roll-up per line: 0.13 were measured where 86 million lines a day have two million clients."""

QUOTA_KEYS = FURTHEST_AHEAD + 5
"""Most units per minute and log for offsets without an item, and for the registry with each call."""

QUOTA_ITEM_S, QUOTA_LINE_S = 0.0005, 0.000003
"""Seconds of sweep per item and per line that quotas take, as of one full vCPU: 2.9 microseconds were measured
per client of a flood."""

OTHER_INVOCATIONS_PER_S, OTHER_S, OTHER_GB = 3 / 60, 0.2, (512 + 2 * VCPU_MB) / 3 / 1024
"""Rate, seconds and mean memory of sweep, and of publish and enforce on its heartbeat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Traffic and configuration to estimate for. An on-demand stream has ``shards`` 0."""

    requests_per_second: float
    source: str | None = "cloudfront"
    """The log that comes through the stream, a key of LINE_BYTES; None if all logs are in S3."""
    shards: int = 0
    sample_rate: int = 100
    """Percentage of requests that are logged."""
    objects: bool = False
    """True if the same requests are also logged in objects in S3."""
    rules: int = 2
    """Rules in the rule group, one per family."""
    web_acl_wcu: int = 0
    """Capacity units that the web ACL uses, including those of the rule group."""
    feeds: int = 0
    """Feeds in the rules."""
    quotas: bool = False
    """True if the rules have a quota."""
    event_bus: bool = False
    """True if announcements are sent to an event bus as well as to the log."""
    alarms: bool = False
    """True if setup creates alarms and a dashboard."""
    stack: bool = False
    """True for the CloudFormation stack, which has alarms and a dashboard as well, and a key for their topic."""

    @property
    def lines_per_second(self) -> float:
        """Lines that come through the stream."""
        return self.requests_per_second * self.sample_rate / 100 if self.source else 0.0


@dataclass(frozen=True, slots=True)
class Cost:
    item: str
    quantity: str
    dollars: float
    """US dollars per month."""


OBJECTS = "s3"
"""Name of the log that arrives as objects in S3."""

SOURCES = (*LINE_BYTES, OBJECTS)
"""Logs whose cost is known: those of ``LINE_BYTES`` come through the stream."""


def load_of(source: str, requests_per_second: float, **choices: Any) -> Load:
    """Returns the load of a stage that counts a single log, one of ``SOURCES``."""
    if source == OBJECTS:
        return Load(requests_per_second=requests_per_second, source=None, objects=True, **choices)
    return Load(requests_per_second=requests_per_second, source=source, **choices)


def shards_for(lines_per_second: float, source: str = "cloudfront") -> int:
    """Returns the shards that accept this rate of lines, with a fifth to spare.

    >>> shards_for(1000), shards_for(50_000), shards_for(1), shards_for(50_000, "waf")
    (2, 60, 1, 18)
    """
    return max(1, ceil(lines_per_second * HEADROOM / lines_per_shard(source)))


def lines_per_shard(source: str) -> float:
    """Returns the lines of a log that a shard accepts per second.

    >>> lines_per_shard("cloudfront"), round(lines_per_shard("waf"))
    (1000.0, 3333)
    """
    _, records, record_bytes = _delivery(source, 1.0)
    return 1 / max(records / SHARD_RECORDS_PER_S, records * record_bytes / SHARD_BYTES_PER_S)


def monthly_costs(load: Load) -> list[Cost]:
    """Returns each item of the bill; their sum is the estimate."""
    delivery, _, _ = _delivery(load.source or "cloudfront", load.lines_per_second * SECONDS_PER_MONTH)
    return [*([delivery] if load.source else []), *_costs_after_delivery(load)]


def _costs_after_delivery(load: Load) -> list[Cost]:
    lines_per_second = load.lines_per_second
    lines = lines_per_second * SECONDS_PER_MONTH
    _, records, record_bytes = _delivery(load.source or "cloudfront", lines)
    shards = load.shards or max(ON_DEMAND_SHARDS, shards_for(lines_per_second, load.source or "cloudfront"))
    batches = shards * SECONDS_PER_MONTH * min(BATCHES_PER_S, max(lines_per_second / shards, 1e-9))
    tally_bytes = lines / batches * TALLY_BYTES_PER_LINE + PORTRAIT_BYTES
    write_units = batches * max(1, ceil(tally_bytes / 1024))
    # A ring reads the registry and the next item of every log, for a unit each, even if there is no such item. A log
    # that has one is read again, and so is the registry. Lambda's own reads of a table's stream are free.
    rings = min(batches, RINGS_PER_S * SECONDS_PER_MONTH)
    read_units = rings * (1 + shards) + batches * (2 + max(1, ceil(tally_bytes / 4096)))
    minutes, quarters = SECONDS_PER_MONTH / 60, SECONDS_PER_MONTH / QUARTER_S
    read_units += minutes * SWEEP_READ_UNITS + quarters * (TREND_READ_UNITS + shards)
    write_units += minutes * SWEEP_WRITE_UNITS + quarters * TREND_WRITE_UNITS
    others = OTHER_INVOCATIONS_PER_S * SECONDS_PER_MONTH
    invocations = batches + rings + others
    gb_s = (
        (batches * INVOCATION_S + lines * LINE_S) * INGEST_GB
        + (rings * RING_S + lines * RING_LINE_S) * evaluator_mb(lines_per_second) / 1024
        + others * OTHER_S * OTHER_GB
    )
    own_logs = invocations * OWN_LOG_BYTES / GB
    return [
        *stream_costs(records, record_bytes, load.shards),
        *(object_costs(load.requests_per_second * SECONDS_PER_MONTH) if load.objects else []),
        Cost("Lambda invocations", _millions(invocations), invocations * PRICES["lambda.request"]),
        Cost("Lambda computing", f"{gb_s:,.0f} GB-s", gb_s * PRICES["lambda.gb_s"]),
        Cost("DynamoDB writes", f"{_millions(write_units)} units", write_units * PRICES["dynamodb.write_unit"]),
        Cost("DynamoDB reads", f"{_millions(read_units)} units", read_units * PRICES["dynamodb.read_unit"]),
        Cost("WAF rules", f"{load.rules}", load.rules * PRICES["waf.rule"]),
        Cost("WAF rule group", "1", PRICES["waf.rule_group"]),
        *_excess_capacity(load),
        Cost("CloudWatch Logs, the functions' own", f"{own_logs:,.1f} GB", own_logs * PRICES["logs.gb_in"]),
        Cost("CloudWatch metrics", f"{METRICS}", METRICS * PRICES["metric"]),
        *(feed_costs(load.feeds) if load.feeds else []),
        *(_quota_costs(lines, batches, tally_bytes, shards) if load.quotas else []),
        *([Cost("EventBridge events", _millions(ANNOUNCEMENTS), _sent(ANNOUNCEMENTS))] if load.event_bus else []),
        *(_alarm_costs() if load.alarms or load.stack else []),
        *([Cost("KMS key of the alarms' topic", "1", PRICES["key"])] if load.stack else []),
    ]


def attack_dollars(load: Load, requests_per_second: float, hours: float = 1) -> float:
    """Returns what an attack adds to the bill of a month. Lines that shards reject cost only their delivery."""
    share = hours * 3600 / SECONDS_PER_MONTH
    attacked = load.requests_per_second + requests_per_second
    counted = attacked
    if load.shards and load.source:
        accepted = load.shards * lines_per_shard(load.source) * 100 / load.sample_rate
        counted = max(load.requests_per_second, min(attacked, accepted))
    usual, busy = (
        total(_costs_after_delivery(replace(load, requests_per_second=rate)))
        for rate in (load.requests_per_second, counted)
    )
    # Every line is delivered, and the month's volume has one price, however it is spread over the month.
    average = replace(load, requests_per_second=load.requests_per_second + requests_per_second * share)
    before, after = (
        _delivery(of.source, of.lines_per_second * SECONDS_PER_MONTH)[0].dollars if of.source else 0.0
        for of in (load, average)
    )
    announced = hours * 3600 * ATTACK_ANNOUNCEMENTS_PER_S
    announcing = announced * ANNOUNCEMENT_BYTES / GB * PRICES["logs.gb_in"]
    announcing += _sent(announced) if load.event_bus else 0.0
    return (busy - usual) * share + after - before + announcing


def _sent(announcements: float) -> float:
    """Returns the price of announcements that are sent to an event bus."""
    return announcements * PRICES["events.custom"]


def excess_dollars(load: Load) -> float:
    """Returns the monthly price of the web ACL's capacity above ``INCLUDED_WCU``."""
    steps = ceil(max(0, load.web_acl_wcu - INCLUDED_WCU) / WCU_STEP)
    return steps * load.requests_per_second * SECONDS_PER_MONTH * PRICES["waf.excess_500_wcu"]


def _excess_capacity(load: Load) -> list[Cost]:
    if load.web_acl_wcu <= INCLUDED_WCU:
        return []
    return [Cost(f"WAF capacity above {INCLUDED_WCU:,}", f"{load.web_acl_wcu:,} WCU", excess_dollars(load))]


def _alarm_costs() -> list[Cost]:
    return [
        Cost("CloudWatch alarms", f"{ALARMS}", ALARMS * PRICES["alarm"]),
        Cost("CloudWatch dashboard", "1", PRICES["dashboard"]),
    ]


def dollars_per_million(source: str) -> float:
    """Returns what a million requests of a live log cost until they are in an on-demand stream, and are read there."""
    delivery, records, record_bytes = _delivery(source, 1e6)
    _hours, *by_volume = stream_costs(records, record_bytes, shards=0)
    return total([delivery, *by_volume])


def _delivery(source: str, lines: float) -> tuple[Cost, float, float]:
    """Returns the cost of a log of ``lines``, the records that they become in the stream, and the bytes of each."""
    line_bytes = LINE_BYTES[source]
    if source == "cloudfront":
        cost = Cost("CloudFront real-time log lines", _millions(lines), lines * PRICES["cloudfront.line"])
        return cost, lines, line_bytes
    included = WAF_INCLUDED_BYTES if source == "waf" else 0
    volume = lines * (line_bytes - included) / GB
    name = "CloudWatch Logs, WAF log lines" if source == "waf" else "CloudWatch Logs, log lines"
    cost = Cost(name, f"{volume:,.0f} GB", _vended(volume))
    return cost, lines / ENVELOPE_LINES, ENVELOPE_LINES * line_bytes / ENVELOPE_RATIO


def _vended(gb: float) -> float:
    """Returns the price of GB that AWS services log within a month."""
    dollars = 0.0
    for size, price in VENDED_TIERS:
        dollars += min(gb, size) * price
        gb -= min(gb, size)
    return dollars


def object_costs(lines: float) -> list[Cost]:
    """Returns the items for logs in S3: ``lines`` per month, whose delivery to the bucket is not included."""
    objects = lines / OBJECT_LINES
    parts = max(objects, lines / PART_LINES)
    requests = 3 * objects + QUEUE_POLLS_PER_S * SECONDS_PER_MONTH
    gb_s = (objects * OBJECT_S + lines * (LINE_S + RING_LINE_S) + parts * RING_S) * INGEST_GB
    # In a transaction, with the receipt, a write costs twice as much.
    units = 2 * (lines * TALLY_BYTES_PER_LINE / 1024 + 2 * parts)
    dollars = {
        "sqs.request": requests,
        "s3.get": parts,
        "lambda.request": 2 * parts,
        "lambda.gb_s": gb_s,
        "dynamodb.write_unit": units,
        "metric": OBJECT_METRICS,
    }
    total = sum(number * PRICES[unit] for unit, number in dollars.items())
    return [Cost("Logs in S3: queue, reads, computing, tallies", f"{objects:,.0f} objects", total)]


def feed_costs(feeds: int) -> list[Cost]:
    """Returns the items for feeds that block what they list: each is read every hour, and prolongs its blocks when half
    of their time is over."""
    checks = feeds * SECONDS_PER_MONTH / CHECK_S
    prolonged = feeds * FEED_NETWORKS * SECONDS_PER_MONTH / (BLOCK_S / 2)
    dollars = {
        "dynamodb.read_unit": checks * (FEED_NETWORKS + FEED_READ_UNITS),
        # In a transaction, with their events, writes cost twice as much.
        "dynamodb.write_unit": checks * FEED_WRITE_UNITS + 2 * prolonged,
        "lambda.gb_s": checks * FEED_S * SWEEP_GB,
    }
    total = sum(number * PRICES[unit] for unit, number in dollars.items())
    return [Cost(f"Feeds of {FEED_NETWORKS:,} networks", f"{feeds}", total)]


def _quota_costs(lines: float, batches: float, tally_bytes: float, shards: int) -> list[Cost]:
    """Returns the items for quotas: the sweep reads each tally once more, and adds the tallies up in roll-ups."""
    numbers = {
        "dynamodb.read_unit": batches * ceil(tally_bytes / 4096) + SECONDS_PER_MONTH / 60 * shards * QUOTA_KEYS,
        "dynamodb.write_unit": lines * ROLL_UP_BYTES_PER_LINE / 1024 + SECONDS_PER_MONTH / 3600,
        "lambda.gb_s": (batches * QUOTA_ITEM_S + lines * QUOTA_LINE_S) * INGEST_GB,
    }
    total = sum(number * PRICES[unit] for unit, number in numbers.items())
    return [Cost("Quotas: reading and adding up tallies", f"{_millions(batches)} tallies", total)]


def stream_costs(records: float, record_bytes: float, shards: int) -> list[Cost]:
    """Returns the items for a stream: ``records`` per month of ``record_bytes`` each; ``shards`` 0 is on demand."""
    hours = SECONDS_PER_MONTH / 3600
    if shards:
        units = records * ceil(record_bytes / PUT_UNIT)
        return [
            Cost("Kinesis shards", f"{shards}", shards * hours * PRICES["kinesis.shard.hour"]),
            Cost("Kinesis puts", _millions(units), units * PRICES["kinesis.put_unit"]),
        ]
    billed = records * ceil(record_bytes / ON_DEMAND_ROUNDING) * ON_DEMAND_ROUNDING / GB
    read = records * record_bytes / GB
    return [
        Cost("Kinesis on-demand stream", "1", hours * PRICES["kinesis.on_demand.hour"]),
        Cost("Kinesis bytes in", f"{billed:,.0f} GB", billed * PRICES["kinesis.on_demand.gb_in"]),
        Cost("Kinesis bytes out", f"{read:,.0f} GB", read * PRICES["kinesis.on_demand.gb_out"]),
    ]


def total(costs: list[Cost]) -> float:
    return sum(cost.dollars for cost in costs)


def _millions(number: float) -> str:
    return f"{number / 1e6:,.1f} M"
