"""Plans and costs as tables and as JSON."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

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
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("", "kind", "name", ""):
        table.add_column(column, overflow="fold")
    for step in steps:
        table.add_row(f"[{STYLES[step.action]}]{step.action}[/]", step.resource.kind, step.resource.name, step.detail)
    return table


def cost_table(costs: Sequence[Cost]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("per month")
    table.add_column("", justify="right")
    table.add_column("USD", justify="right")
    for cost in costs:
        table.add_row(cost.item, cost.quantity, f"{cost.dollars:,.2f}")
    table.add_row("[bold]total[/]", "", f"[bold]{total(list(costs)):,.2f}[/]")
    return table


def plan_as_json(steps: Sequence[Step]) -> list[dict[str, Any]]:
    return [step.row() for step in steps]


def costs_as_json(costs: Sequence[Cost]) -> dict[str, Any]:
    items = [{"item": cost.item, "quantity": cost.quantity, "usd": round(cost.dollars, 2)} for cost in costs]
    return {"items": items, "usd_a_month": round(total(list(costs)), 2)}
