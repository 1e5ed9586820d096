"""``sluice cost``: what a stage costs per month, computed on this machine."""

from typing import Any

import click
from rich.console import Console

from chalicelib.core.rules_toml import MOST_FEEDS
from sluice.commands.shared.costs import ATTACK, items_of, print_bill
from sluice.commands.shared.options import json_output
from sluice.commands.shared.output import output, print_json, table
from sluice.deploy.costs import (
    FEED_NETWORKS,
    OBJECTS,
    ON_DEMAND_SHARDS,
    SECONDS_PER_MONTH,
    SOURCES,
    Load,
    attack_dollars,
    lines_per_shard,
    load_of,
    monthly_costs,
    total,
)
from sluice.deploy.stage import MOST_SHARDS


@click.command()
@click.option(
    "--requests-per-second", type=click.FloatRange(0.001), required=True, metavar="N", help="Average rate of requests."
)
@click.option(
    "--source",
    type=click.Choice(SOURCES),
    help="Log to count, 's3' for objects in S3; without it, all logs are compared.",
)
@click.option("--shards", type=click.IntRange(0, MOST_SHARDS), default=0, help="Kinesis shards; 0 is on-demand.")
@click.option(
    "--sample-rate",
    type=click.IntRange(1, 100),
    default=100,
    show_default=True,
    help="Percentage of requests that CloudFront's real-time log holds.",
)
@click.option(
    "--web-acl-capacity",
    type=click.IntRange(0, 5000),
    default=0,
    metavar="WCU",
    help="Capacity units of the web ACL, including the rule group's: above 1,500, AWS charges for every request.",
)
@click.option(
    "--feeds",
    type=click.IntRange(0, MOST_FEEDS),
    default=0,
    metavar="N",
    help=f"Feeds in the rules, each of which blocks {FEED_NETWORKS:,} networks.",
)
@click.option("--quotas", is_flag=True, help="Include what rules with a window of days cost.")
@click.option("--event-bus", is_flag=True, help="Include the price of sending announcements to an event bus.")
@click.option("--alarms", is_flag=True, help="Include the alarms and the dashboard of sluice setup --alarms.")
@click.option("--stack", is_flag=True, help="Include alarms, dashboard and key of the CloudFormation stack.")
@click.option(
    "--attack",
    type=click.FloatRange(0),
    default=ATTACK,
    show_default=True,
    metavar="N",
    help="Requests per second of an attack, whose price per hour is shown.",
)
@json_output("Print one JSON object.")
def cost(
    requests_per_second: float,
    source: str | None,
    shards: int,
    sample_rate: int,
    web_acl_capacity: int,
    feeds: int,
    quotas: bool,
    event_bus: bool,
    alarms: bool,
    stack: bool,
    attack: float,
    as_json: bool,
) -> None:
    """Estimate what a stage costs per month. Needs neither credentials nor a network.

    \b
    sluice cost --requests-per-second 1000
    sluice cost --requests-per-second 1000 --source waf
    sluice cost --requests-per-second 1000 --source cloudfront --shards 2 --json
    """
    if sample_rate < 100 and source != "cloudfront":
        raise click.UsageError("--sample-rate belongs to --source cloudfront: only CloudFront samples its log.")
    if shards and source == OBJECTS:
        raise click.UsageError("--shards belongs to a log that comes through the stream, not to objects in S3.")
    choices = {
        "shards": shards,
        "sample_rate": sample_rate,
        "web_acl_wcu": web_acl_capacity,
        "feeds": feeds,
        "quotas": quotas,
        "event_bus": event_bus,
        "alarms": alarms,
        "stack": stack,
    }
    console = output()
    if source is None:
        loads = {name: load_of(name, requests_per_second, **choices) for name in SOURCES}
        if as_json:
            print_json({"requests_per_second": requests_per_second, "sources": [*map(_row, loads, loads.values())]})
        else:
            _compare(console, loads)
        return
    load = load_of(source, requests_per_second, **choices)
    if as_json:
        print_json(
            {
                "requests_per_second": requests_per_second,
                **_row(source, load),
                "items": items_of(monthly_costs(load)),
                "attack": {"requests_per_second": attack, "hours": 1, "usd": round(attack_dollars(load, attack), 2)},
            }
        )
        return
    print_bill(console, load, attack=attack)


def _row(source: str, load: Load) -> dict[str, Any]:
    dollars = total(monthly_costs(load))
    millions = load.requests_per_second * SECONDS_PER_MONTH / 1e6
    streamed = source != OBJECTS
    accepts = round((load.shards or ON_DEMAND_SHARDS) * lines_per_shard(source)) if streamed else None
    return {
        "source": source,
        "usd_a_month": round(dollars, 2),
        "usd_per_million_requests": round(dollars / millions, 4),
        "lines_per_second_at_first": accepts,
    }


def _compare(console: Console, loads: dict[str, Load]) -> None:
    rows = []
    for source, load in loads.items():
        row = _row(source, load)
        accepts = row["lines_per_second_at_first"]
        per_million = f"{row['usd_per_million_requests']:,.2f}"
        rows.append((source, f"{row['usd_a_month']:,.2f}", per_million, f"{accepts:,}" if accepts else "-"))
    columns = ("log", "USD per month", "per million requests", "lines per second at first")
    console.print(table(columns, rows, right=columns[1:]))
