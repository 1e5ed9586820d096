"""``python -m bench``: all figures as a table and, with ``--json FILE``, as data."""

import json
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bench.measure import Figure

SUITES = {
    "ingest": "bench.ingest:figures",
    "bill": "bench.bill:figures",
    "views": "bench.views:figures",
    "publishing": "bench.publishing:figures",
    "deciding": "bench.deciding:figures",
    "api": "bench.api:figures",
    "networks": "bench.networks:figures",
    "latency": "bench.latency:figures",
    "hostile": "bench.hostile:figures",
    "strangers": "bench.strangers:figures",
    "site": "bench.site:figures",
    "package": "bench.package:figures",
    "replay": "bench.replay:figures",
}
"""Suite to module and function."""


@click.command()
@click.argument("suites", nargs=-1, type=click.Choice(list(SUITES)))
@click.option(
    "--json", "file", type=click.Path(path_type=Path, dir_okay=False), help="Also write the figures to this file."
)
def main(suites: tuple[str, ...], file: Path | None) -> None:
    """Measure SUITES, or everything. The exit status is 1 if a budget does not hold."""
    console = Console()
    figures: list[Figure] = []
    for suite in suites or tuple(SUITES):
        module, _, name = SUITES[suite].partition(":")
        measured: Callable[[], Iterable[Figure]] = getattr(import_module(module), name)
        for figure in measured():
            console.print(f"{figure.name}: {figure.value:.3g} {figure.unit}", highlight=False, style="dim")
            figures.append(figure)
    console.print(table(figures))
    if file:
        file.write_text(json.dumps([figure.as_row() for figure in figures], indent=1) + "\n")
    sys.exit(any(figure.holds is False for figure in figures))


def table(figures: list[Figure]) -> Table:
    rows = Table(title="Figures", title_justify="left")
    for heading in ("figure", "value", "budget", "holds", "how"):
        rows.add_column(heading, overflow="fold")
    for figure in figures:
        sign = "≥" if figure.at_least else "≤"
        budget = "" if figure.budget is None else f"{sign} {figure.budget:g} {figure.unit}"
        holds = {True: "[green]yes[/]", False: "[bold red]no[/]", None: ""}[figure.holds]
        rows.add_row(figure.name, f"{figure.value:.3g} {figure.unit}", budget, holds, figure.how)
    return rows


if __name__ == "__main__":
    main()
