"""The cost model against examples worked out by hand."""

import re
from dataclasses import replace

import pytest

from sluice.deploy.costs import (
    PRICES,
    SECONDS_PER_MONTH,
    SOURCES,
    Cost,
    Load,
    attack_dollars,
    load_of,
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
    standing = {
        "Kinesis on-demand stream": 29.20,
        "WAF rules": 2.0,
        "WAF rule group": 1.0,
        "CloudWatch Logs, the functions' own": 0.07,
        "CloudWatch metrics": 13.80,
        "DynamoDB reads and writes": 0.88,
        "Lambda computing": 0.46,
    }
    assert sum(idle.values()) == pytest.approx(sum(standing.values()), abs=0.5)


@pytest.mark.parametrize("load", [Load(requests_per_second=rps, shards=s) for rps in (1, 100, 50_000) for s in (0, 60)])
def test_more_requests_never_cost_less(load: Load) -> None:
    more = Load(requests_per_second=load.requests_per_second * 2, shards=load.shards)
    assert total(monthly_costs(load)) <= total(monthly_costs(more))


def test_waf_logs_pay_cloudwatch_by_the_gigabyte_beyond_what_the_requests_include() -> None:
    """1,000 requests per second of 1.5 KB, of which 500 bytes are included: 2,628 GB at $0.50; twenty per record."""
    costs = dollars(Load(requests_per_second=1000, source="waf", shards=1))
    assert costs["CloudWatch Logs, WAF log lines"] == pytest.approx(1314.0, abs=0.1)
    assert costs["Kinesis puts"] == pytest.approx(36.79 / 20, abs=0.01)


def test_a_large_volume_of_logs_is_cheaper_in_each_tier() -> None:
    """60,000 requests per second of 350 bytes: 55,188 GB, in tiers of 10,000, 20,000 and 20,000 GB, and the rest."""
    costs = dollars(Load(requests_per_second=60_000, source="api-gateway"))
    expected = 10_000 * 0.50 + 20_000 * 0.25 + 20_000 * 0.10 + 5_188 * 0.05
    assert costs["CloudWatch Logs, log lines"] == pytest.approx(expected, abs=0.1)


def test_capacity_above_1500_is_paid_with_every_request_by_started_steps_of_500() -> None:
    """2,628 M requests at $0.20 per million and step."""
    item = "WAF capacity above 1,500"
    assert item not in dollars(Load(requests_per_second=1000, web_acl_wcu=1500))
    assert dollars(Load(requests_per_second=1000, web_acl_wcu=1501))[item] == pytest.approx(525.60, abs=0.01)
    assert dollars(Load(requests_per_second=1000, web_acl_wcu=2001))[item] == pytest.approx(1051.20, abs=0.01)


def test_the_functions_own_logs_are_paid_by_invocation() -> None:
    """Two batches and two rings per second, and three invocations per minute: 10.6 M of 700 bytes, at $0.50."""
    costs = dollars(Load(requests_per_second=1000, shards=2))
    assert costs["CloudWatch Logs, the functions' own"] == pytest.approx(10.64 * 0.7 * 0.5, abs=0.01)


def test_a_stack_pays_for_its_alarms_dashboard_and_key() -> None:
    template = (ROOT / ".chalice" / "resources.yaml").read_text()
    alarms = template.count("Type: AWS::CloudWatch::Alarm")
    load = Load(requests_per_second=1)
    added = total(monthly_costs(replace(load, stack=True))) - total(monthly_costs(load))
    assert added == pytest.approx(alarms * 0.10 + 3 + 1)


def test_an_hour_of_an_attack_is_paid_by_its_lines() -> None:
    """360 M lines: $3.60 from CloudFront, $28.80 into the stream and $4.32 out of it, and what counting them takes."""
    load = Load(requests_per_second=1000)
    assert 3.60 + 28.80 + 4.32 < attack_dollars(load, 100_000) < 42
    assert attack_dollars(load, 100_000, hours=2) == pytest.approx(2 * attack_dollars(load, 100_000))


def test_shards_count_as_much_of_an_attack_as_they_accept() -> None:
    """Two shards accept 2,000 lines per second, 1,000 of which are taken: 3.6 M more puts, but CloudFront bills all."""
    attack = attack_dollars(Load(requests_per_second=1000, shards=2), 100_000)
    assert attack == pytest.approx(3.60 + 3.6 * 0.014, abs=0.02)


def test_an_attack_on_a_site_that_logs_to_cloudwatch_pays_its_volume() -> None:
    """360 M lines of 1,000 billed bytes: 360 GB at $0.50, in the first tier."""
    costs = attack_dollars(Load(requests_per_second=1, source="waf"), 100_000)
    assert 180 < costs < 200


def test_reads_of_tallies_grow_with_the_shards_not_with_their_square() -> None:
    """Four batches per second: each invocation reads the registry and four logs, and the log of its tally once more.

    4 * (5 + 3) units per second are 84 million per month, at $0.125 per million. 43,800 sweeps read 150 units, and a
    quarter hour takes 34.
    """
    swept = (43_800 * 150 + 2_920 * 34) * 0.125e-6
    assert dollars(Load(requests_per_second=1000, shards=4))["DynamoDB reads"] == pytest.approx(10.51 + swept, abs=0.01)
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
    titles = (f"`{source}`" for source in SOURCES)
    assert f"| requests per second | {' | '.join(titles)} | `cloudfront` with `--shards` |" in text
    for rate in (1, 100, 1_000, 10_000, 50_000):
        shards = shards_for(rate)
        cells = [f"${total(monthly_costs(load_of(source, rate))):,.0f}" for source in SOURCES]
        provisioned = f"${total(monthly_costs(Load(requests_per_second=rate, shards=shards))):,.0f} ({shards})"
        assert f"| {rate:,} | {' | '.join(cells)} | {provisioned} |" in text


def test_the_documented_bill_is_current() -> None:
    text = (ROOT / "docs" / "operate" / "deploying.md").read_text()
    load = Load(requests_per_second=1000)
    costs = monthly_costs(load)
    for cost in [*costs, Cost("total", "", total(costs))]:
        line = rf"^{re.escape(cost.item)} +{re.escape(cost.quantity)} *{cost.dollars:,.2f}$"
        assert re.search(line, text, re.MULTILINE), cost
    two = total(monthly_costs(replace(load, shards=2)))
    assert f"--shards 2 accepts 2,000 and costs {two:,.2f} USD per month" in text
    assert f"An attack of 100,000 requests per second adds {attack_dollars(load, 100_000):,.2f} USD per hour" in text


def test_logs_in_s3_have_an_item_of_their_own_and_cost_little() -> None:
    load = Load(requests_per_second=1000)
    (added,) = set(monthly_costs(replace(load, objects=True))) - set(monthly_costs(load))
    assert added.item.startswith("Logs in S3")
    per_million = added.dollars / (1000 * SECONDS_PER_MONTH / 1e6)
    assert 0.005 < per_million < 0.05


def test_a_feed_costs_the_reads_of_its_blocks_and_their_prolongation() -> None:
    """730 checks of 1,510 reads, 730 * 2 writes and 1,500 * 8.7 in a transaction, and 730 GB-s: cents."""
    load = Load(requests_per_second=1)
    assert not [item for item in dollars(load) if "Feeds" in item]
    one = dollars(replace(load, feeds=1))["Feeds of 1,500 networks"]
    assert one == pytest.approx(
        (730 * 1510 * 0.125 + (730 * 2 + 2 * 1500 * 8.69) * 0.625 + 730 * 13.33) / 1e6, abs=0.001
    )
    assert dollars(replace(load, feeds=3))["Feeds of 1,500 networks"] == pytest.approx(3 * one)


def test_quotas_cost_a_second_read_of_each_tally_and_their_roll_ups() -> None:
    """2,628 million lines in 10.5 million tallies of two units, and 37 units per minute of each of four logs."""
    load = Load(requests_per_second=1000)
    (added,) = set(monthly_costs(replace(load, quotas=True))) - set(monthly_costs(load))
    assert added.item.startswith("Quotas")
    reads, writes = 10.512 * 1 + 0.0438 * 4 * 37, 2628 * 0.3 / 1024
    gb_s = (10.512e6 * 0.0005 + 2628e6 * 0.000003) * 1769 / 1024
    assert added.dollars == pytest.approx(reads * 0.125 + writes * 0.625 + gb_s * 13.3334e-6, rel=0.01)


def test_a_bucket_without_traffic_costs_its_polls_and_metrics() -> None:
    (cost,) = object_costs(0)
    assert 1 < cost.dollars < 1.5
