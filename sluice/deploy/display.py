"""Plans and costs as tables and as JSON."""

from collections.abc import Sequence
from typing import Any

from rich.table import Column, Table

from sluice.deploy.costs import Cost, total
from sluice.deploy.plan import Step, StepAction

STYLES = {
    StepAction.CREATE: "green",
    StepAction.CHANGE: "yellow",
    StepAction.REMOVE: "red",
    StepAction.REFUSE: "bold red",
    StepAction.KEEP: "dim",
    StepAction.LEAVE: "dim",
}


def plan_table(steps: Sequence[Step]) -> Table:
    columns = (Column(name, overflow="fold") for name in ("", "kind", "name", ""))
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for step in steps:
        table.add_row(f"[{STYLES[step.action]}]{step.action}[/]", step.resource.kind, step.resource.name, step.detail)
    return table


def cost_table(costs: Sequence[Cost]) -> Table:
    numbers = (Column(name, justify="right") for name in ("", "USD"))
    table = Table("per month", *numbers, box=None, pad_edge=False, header_style="bold")
    for cost in costs:
        table.add_row(cost.item, cost.quantity, f"{cost.dollars:,.2f}")
    table.add_row("[bold]total[/]", "", f"[bold]{total(list(costs)):,.2f}[/]")
    return table


def plan_as_json(steps: Sequence[Step]) -> list[dict[str, str]]:
    return [step.row() for step in steps]


def costs_as_json(costs: Sequence[Cost]) -> dict[str, Any]:
    items = [{"item": cost.item, "quantity": cost.quantity, "usd": round(cost.dollars, 2)} for cost in costs]
    return {"items": items, "usd_a_month": round(total(list(costs)), 2)}
