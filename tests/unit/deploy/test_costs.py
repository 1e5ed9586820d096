"""The cost model against examples worked out by hand."""

from dataclasses import replace

import pytest

from sluice.deploy.costs import (
    PRICES,
    SECONDS_PER_MONTH,
    Load,
    monthly_costs,
    object_costs,
    shards_for,
    stream_costs,
    total,
)
from tests.support.deploy.account import ROOT

LINES = 1000 * SECONDS_PER_MONTH
"""Lines per month at 1,000 requests per second: 2.63 G."""


def dollars(load: Load) -> dict[str, float]:
    return {cost.item: cost.dollars for cost in monthly_costs(load)}


def test_a_thousand_requests_per_second_on_provisioned_shards() -> None:
    """2.63 G lines: CloudFront $26, two to three shards $22 to $33, puts $37."""
    two, three = (dollars(Load(requests_per_second=1000, shards=shards)) for shards in (2, 3))
    assert two["CloudFront real-time log lines"] == pytest.approx(26.28, abs=0.01)
    assert two["Kinesis shards"] == pytest.approx(21.90, abs=0.01)
    assert three["Kinesis shards"] == pytest.approx(32.85, abs=0.01)
    assert two["Kinesis puts"] == pytest.approx(36.79, abs=0.01)


def test_a_thousand_requests_per_second_on_demand() -> None:
    """$29.20 per stream; each record rounded up to 1 KB, 2,628 GB at $0.08; reads are not rounded, 788 GB at $0.04."""
    costs = dollars(Load(requests_per_second=1000))
    assert costs["Kinesis on-demand stream"] == pytest.approx(29.20, abs=0.01)
    assert costs["Kinesis bytes in"] == pytest.approx(210.24, abs=0.01)
    assert costs["Kinesis bytes out"] == pytest.approx(31.54, abs=0.01)


def test_tallies_save_a_write_per_request() -> None:
    """One write unit per request would cost $1,640 per month; one tally per batch is a hundredth of that."""
    naive = LINES * PRICES["dynamodb.write_unit"]
    assert naive == pytest.approx(1642.5, abs=0.1)
    assert dollars(Load(requests_per_second=1000, shards=2))["DynamoDB writes"] < naive / 100


def test_a_sampled_log_costs_its_share() -> None:
    whole, tenth = (dollars(Load(requests_per_second=1000, shards=2, sample_rate=rate)) for rate in (100, 10))
    for item in ("CloudFront real-time log lines", "Kinesis puts"):
        assert tenth[item] == pytest.approx(whole[item] / 10)


def test_an_idle_site_pays_only_for_standing_resources() -> None:
    idle = dollars(Load(requests_per_second=0.001))
    standing = {"Kinesis on-demand stream": 29.20, "WAF rules": 2.0, "CloudWatch metrics": 13.80}
    assert sum(idle.values()) == pytest.approx(sum(standing.values()), abs=0.5)


@pytest.mark.parametrize("load", [Load(requests_per_second=rps, shards=s) for rps in (1, 100, 50_000) for s in (0, 60)])
def test_more_requests_never_cost_less(load: Load) -> None:
    more = Load(requests_per_second=load.requests_per_second * 2, shards=load.shards)
    assert total(monthly_costs(load)) <= total(monthly_costs(more))


def test_waf_logs_pay_cloudwatch_by_the_gigabyte() -> None:
    """1,000 requests per second of 1.5 KB: 3,942 GB at $0.50; twenty per record, so far fewer puts."""
    costs = dollars(Load(requests_per_second=1000, source="waf", shards=1))
    assert costs["CloudWatch Logs, WAF log lines"] == pytest.approx(1971.0, abs=0.1)
    assert costs["Kinesis puts"] == pytest.approx(36.79 / 20, abs=0.01)


def test_reads_of_tallies_grow_with_the_shards_not_with_their_square() -> None:
    """Four batches per second: each invocation reads the registry and four logs, and the log of its tally once more.

    4 * (5 + 3) units per second are 84 million per month, at $0.125 per million.
    """
    assert dollars(Load(requests_per_second=1000, shards=4))["DynamoDB reads"] == pytest.approx(10.51, abs=0.01)
    few, many = (
        dollars(Load(requests_per_second=500 * shards, shards=shards))["DynamoDB reads"] for shards in (25, 100)
    )
    assert many < 5 * few


def test_the_evaluator_pays_for_the_memory_of_its_rate() -> None:
    """Per second: 16 invocations of 15 ms and 400,000 lines of 2.5 us, at 3,870 MB; ingest, publish and enforce at
    1,769 MB, and sweep at 512 MB.
    """
    load = Load(requests_per_second=400_000, shards=480)
    computing = dollars(load)["Lambda computing"] / PRICES["lambda.gb_s"] / SECONDS_PER_MONTH
    ingest = (480 * 0.012 + 400_000 * 0.000004) * 1769 / 1024
    evaluate = (16 * 0.015 + 400_000 * 0.0000025) * 3870 / 1024
    each_minute = 0.2 * (2 * 1769 + 512) / 1024
    assert computing == pytest.approx(ingest + evaluate + each_minute / 60, abs=0.0001)


def test_a_large_record_is_several_put_units() -> None:
    (_, puts) = stream_costs(records=1e6, record_bytes=60_000, shards=1)
    assert puts.dollars == pytest.approx(3 * 0.014)


def test_shards_leave_a_fifth_to_spare() -> None:
    assert [shards_for(rate) for rate in (0, 800, 1000, 50_000)] == [1, 1, 2, 60]


def test_the_documented_table_is_current() -> None:
    text = (ROOT / "docs" / "operate" / "deploying.md").read_text()
    for rate in (1, 100, 1_000, 10_000, 50_000):
        shards = shards_for(rate)
        on_demand, provisioned = (
            total(monthly_costs(Load(requests_per_second=rate, shards=count))) for count in (0, shards)
        )
        assert f"| {rate:,} | ${on_demand:,.0f} | ${provisioned:,.0f} ({shards}) |" in text


def test_logs_in_s3_have_an_item_of_their_own_and_cost_little() -> None:
    load = Load(requests_per_second=1000)
    (added,) = set(monthly_costs(replace(load, objects=True))) - set(monthly_costs(load))
    assert added.item.startswith("Logs in S3")
    per_million = added.dollars / (1000 * SECONDS_PER_MONTH / 1e6)
    assert 0.005 < per_million < 0.05


def test_a_bucket_without_traffic_costs_its_polls_and_metrics() -> None:
    (cost,) = object_costs(0)
    assert 1 < cost.dollars < 1.5
