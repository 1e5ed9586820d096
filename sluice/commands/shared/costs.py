"""A cost estimate as text and as JSON."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console

from sluice.commands.shared.output import table
from sluice.deploy.costs import (
    ON_DEMAND_SHARDS,
    Cost,
    Load,
    attack_dollars,
    lines_per_shard,
    monthly_costs,
    shards_for,
    total,
)

ATTACK = 100_000
"""Requests per second of the attack that an estimate prices."""


def items_of(costs: Sequence[Cost]) -> list[dict[str, Any]]:
    """Returns the items of a bill as ``--json`` prints them."""
    return [{"item": cost.item, "quantity": cost.quantity, "usd": round(cost.dollars, 2)} for cost in costs]


def print_bill(console: Console, load: Load, *, origin: str = "", attack: float = ATTACK) -> None:
    """Prints the items of the bill with their sum, how much the stream accepts, and what an attack adds.

    ``origin`` says where the rate of requests is from, ``attack`` is in requests per second.
    """
    costs = monthly_costs(load)
    console.print(f"At {load.requests_per_second:g} requests per second{origin}, at list prices of us-east-1:\n")
    bill = [*costs, Cost("total", "", total(costs))]
    rows = [(cost.item, cost.quantity, f"{cost.dollars:,.2f}") for cost in bill]
    console.print(table(("per month", "", "USD"), rows, right=("", "USD")))
    console.print()
    if load.source is not None:
        _print_capacity(console, load, load.source)
    price = f"{attack_dollars(load, attack):,.2f}"
    console.print(f"An attack of {attack:,g} requests per second adds {price} USD per hour.")


def _print_capacity(console: Console, load: Load, source: str) -> None:
    """Prints how many lines the stream accepts and, if it is on demand, the alternatives."""
    per_shard, again = lines_per_shard(source), "the source may not send the rest again"
    if load.shards:
        console.print(f"{load.shards} shards accept {load.shards * per_shard:,.0f} lines per second: {again}.")
        return
    shards = shards_for(load.lines_per_second, source)
    provisioned = total(monthly_costs(replace(load, shards=shards)))
    console.print(
        f"A new on-demand stream accepts {ON_DEMAND_SHARDS * per_shard:,.0f} lines per second, later twice the peak of "
        f"the last 30 days; {again}.\n--shards {shards} accepts {shards * per_shard:,.0f} and costs {provisioned:,.2f} "
        "USD per month. --shards 0 afterwards makes it on-demand, with the shards that it has."
    )
