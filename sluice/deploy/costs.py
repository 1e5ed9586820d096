"""What a stage costs a month, at a given rate of requests. One table of prices, one function.

On-demand list prices of us-east-1, without free tiers. What is estimated errs on the dear side.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

SECONDS_A_MONTH = 730 * 3600
GB = 1_000_000_000

PRICES: Mapping[str, float] = {
    "cloudfront.line": 0.01 / 1e6,
    "kinesis.on_demand.hour": 0.04,
    "kinesis.on_demand.gb_in": 0.08,
    "kinesis.on_demand.gb_out": 0.04,
    "kinesis.shard.hour": 0.015,
    "kinesis.put_unit": 0.014 / 1e6,
    "lambda.request": 0.20 / 1e6,
    "lambda.gb_s": 0.0000166667,
    "dynamodb.write_unit": 0.625 / 1e6,
    "dynamodb.read_unit": 0.125 / 1e6,
    "waf.rule": 1.0,
    "logs.gb_in": 0.50,
    "metric": 0.30,
}
"""Dollars."""

RECORDS_A_SHARD = 1000
"""Records a second that a shard takes; CloudFront puts one line into each."""

HEADROOM = 1.2

PUT_UNIT = 25_000
ON_DEMAND_ROUNDING = 1_000
"""An on-demand stream's bytes are billed per record, rounded up to this."""

LINE_BYTES = {"cloudfront": 300, "waf": 1500}
"""Of a line with the default fields; of a WAF record."""

ENVELOPE_LINES = 20
"""WAF lines that CloudWatch Logs puts into one record; gzip makes them five times smaller."""

ENVELOPE_RATIO = 5
BATCHES_A_SECOND = 1.0
"""Lambda polls each shard once a second."""

TALLY_BYTES_A_LINE = 4.0
"""More clients, more bytes: measured are 2 to 3 in large batches."""

INVOCATION_S, LINE_S = 0.012, 0.000004
"""CPU of a batch, and of each line in it, on one full vCPU."""

INGEST_GB = 1769 / 1024
METRICS = 45
OTHER_INVOCATIONS_A_SECOND = 2 / 60
"""Sweep, and publish on its heartbeat."""

OTHER_S, OTHER_GB = 0.2, 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What comes in. ``shards`` 0 is an on-demand stream."""

    requests_a_second: float
    source: str = "cloudfront"
    shards: int = 0
    sample_rate: int = 100
    rules: int = 2
    """In the rule group, one a family; the web ACL is not counted, as it is there already."""


@dataclass(frozen=True, slots=True)
class Cost:
    item: str
    quantity: str
    dollars: float
    """A month."""


def shards_for(lines_a_second: float) -> int:
    """Shards that take so many CloudFront lines, with a fifth to spare.

    >>> shards_for(1000), shards_for(50_000), shards_for(1)
    (2, 60, 1)
    """
    return max(1, ceil(lines_a_second * HEADROOM / RECORDS_A_SHARD))


def monthly_costs(load: Load, prices: Mapping[str, float] = PRICES) -> list[Cost]:
    """Each item of the bill; their sum is the estimate."""
    lines_a_second = load.requests_a_second * load.sample_rate / 100
    lines = lines_a_second * SECONDS_A_MONTH
    line_bytes = LINE_BYTES[load.source]
    records, record_bytes = lines, float(line_bytes)
    delivery = Cost("CloudFront real-time log lines", _millions(lines), lines * prices["cloudfront.line"])
    if load.source == "waf":
        records, record_bytes = lines / ENVELOPE_LINES, ENVELOPE_LINES * line_bytes / ENVELOPE_RATIO
        volume = lines * line_bytes / GB
        delivery = Cost("CloudWatch Logs, WAF log lines", f"{volume:,.0f} GB", volume * prices["logs.gb_in"])
    shards = load.shards or max(4, shards_for(records / SECONDS_A_MONTH))
    batches = shards * SECONDS_A_MONTH * min(BATCHES_A_SECOND, max(lines_a_second / shards, 1e-9))
    lines_a_batch = lines / batches if batches else 0.0
    write_units = batches * max(1, ceil(lines_a_batch * TALLY_BYTES_A_LINE / 1024))
    # Each batch asks every other log for its next item: a unit whether there is one or not, more for a large one.
    read_units = batches * (1 + shards * max(1, ceil(lines_a_batch * TALLY_BYTES_A_LINE / 4096)))
    invocations = batches + OTHER_INVOCATIONS_A_SECOND * SECONDS_A_MONTH
    ingest_s = batches * INVOCATION_S + lines * LINE_S
    other_s = OTHER_INVOCATIONS_A_SECOND * SECONDS_A_MONTH * OTHER_S
    gb_s = ingest_s * INGEST_GB + other_s * OTHER_GB
    return [
        delivery,
        *stream_costs(records, record_bytes, load.shards, prices),
        Cost("Lambda invocations", _millions(invocations), invocations * prices["lambda.request"]),
        Cost("Lambda computing", f"{gb_s:,.0f} GB-s", gb_s * prices["lambda.gb_s"]),
        Cost("DynamoDB writes", f"{_millions(write_units)} units", write_units * prices["dynamodb.write_unit"]),
        Cost("DynamoDB reads", f"{_millions(read_units)} units", read_units * prices["dynamodb.read_unit"]),
        Cost("WAF rules", f"{load.rules}", load.rules * prices["waf.rule"]),
        Cost("CloudWatch metrics", f"{METRICS}", METRICS * prices["metric"]),
    ]


def stream_costs(records: float, record_bytes: float, shards: int, prices: Mapping[str, float] = PRICES) -> list[Cost]:
    """The stream's part: ``records`` a month of ``record_bytes``, into ``shards`` or, if 0, on demand."""
    if shards:
        units = records * ceil(record_bytes / PUT_UNIT)
        hours = shards * SECONDS_A_MONTH / 3600
        return [
            Cost("Kinesis shards", f"{shards}", hours * prices["kinesis.shard.hour"]),
            Cost("Kinesis puts", _millions(units), units * prices["kinesis.put_unit"]),
        ]
    billed = records * ceil(record_bytes / ON_DEMAND_ROUNDING) * ON_DEMAND_ROUNDING / GB
    read = records * record_bytes / GB
    hours = SECONDS_A_MONTH / 3600
    return [
        Cost("Kinesis on-demand stream", "1", hours * prices["kinesis.on_demand.hour"]),
        Cost("Kinesis bytes in", f"{billed:,.0f} GB", billed * prices["kinesis.on_demand.gb_in"]),
        Cost("Kinesis bytes out", f"{read:,.0f} GB", read * prices["kinesis.on_demand.gb_out"]),
    ]


def total(costs: list[Cost]) -> float:
    return sum(cost.dollars for cost in costs)


def _millions(number: float) -> str:
    return f"{number / 1e6:,.1f} M"
