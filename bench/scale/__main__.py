"""``python -m bench.scale``: the model at 1 to 1,000 shards, and the measured pipeline at the small end."""

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bench.prices import PRICES
from bench.scale.model import (
    Load,
    counting_s,
    estimate,
    evaluating_s,
    merging_s,
    rival_dollars_per_million,
    shards_for,
)
from bench.scale.pipeline import measure

RATES = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 830_000, 1_000_000)
SMALL = tuple(Load(requests_per_second=500 * shards, shards=shards) for shards in (1, 2, 4, 8))
COUNTS_WITHIN = 0.15
CPU_WITHIN = 1.0
"""CPU may be between half and twice the model's, because machines differ."""


@click.command()
@click.option(
    "--json", "file", type=click.Path(path_type=Path, dir_okay=False), help="Also write the rows to this file."
)
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draw the plot into this SVG file.")
def main(file: Path | None, plot: Path | None) -> None:
    """Model Sluice at 1,000 to 1,000,000 requests per second. The exit status is 1 if the pipeline differs from it."""
    compared = [row for load in SMALL for row in comparison(load)]
    rows = [scaled(rate) for rate in RATES]
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(tabled("The model beside the measured pipeline, one second", compared))
    console.print(tabled("The model; dollars per million requests", rows))
    if file:
        file.write_text(json.dumps([as_row(rate) for rate in RATES], indent=1) + "\n")
    if plot:
        from bench.scale.plot import draw  # noqa: PLC0415 - slow to import, and needed only here

        draw(plot)
    sys.exit(not all(row["holds"] for row in compared))


def comparison(load: Load) -> Iterable[dict[str, object]]:
    """Yields rows with the measurement at ``load`` beside the model's estimate."""
    model, measured = asdict(estimate(load)), asdict(measure(load))
    # The pipeline gets events as objects and stores in memory: its CPU includes neither JSON nor boto3.
    model["writer_s"] = counting_s(load.batch)
    model["cpu_s"] = load.shards * (merging_s(load.entries) + evaluating_s(load.entries))
    for name in ("write_units", "read_units", "calls", "writer_s", "cpu_s"):
        ratio = measured[name] / model[name]
        within = CPU_WITHIN if name.endswith("_s") else COUNTS_WITHIN
        yield {
            "shards": load.shards,
            "figure": name,
            "modelled": round(model[name], 4),
            "measured": round(measured[name], 4),
            "ratio": round(ratio, 2),
            "holds": 1 / (1 + within) <= ratio <= 1 + within,
        }


def scaled(rate: float) -> dict[str, object]:
    """Returns the row of the table for ``rate``. CPU, memory and cold start are the evaluator's."""
    load = Load(requests_per_second=rate, shards=shards_for(rate))
    estimated = estimate(load)
    return {
        "requests/s": f"{rate:,}",
        "shards": load.shards,
        "writes/s": f"{estimated.write_units:,.0f}",
        "reads/s": f"{estimated.read_units:,.0f}",
        "calls/s": f"{estimated.calls:,.0f}",
        "CPU": f"{estimated.cpu_s:.3f} s",
        "MB": f"{estimated.memory_mb:,.0f}",
        "cold start": f"{estimated.cold_start_s:,.1f} s",
        "delay": f"{estimated.delay_s:.1f} s",
        "$": f"{estimated.dollars_per_million:.4f}",
        "stops": ", ".join(estimated.stops) or "-",
        "rival $": f"{rival_dollars_per_million(load):.2f}",
        "WAF $": f"{PRICES['waf.request'] * 1e6:.2f}",
    }


def as_row(rate: float) -> dict[str, object]:
    """Returns the estimate for ``rate`` as data. CPU, memory and cold start are the evaluator's."""
    shards = shards_for(rate)
    estimated = estimate(Load(requests_per_second=rate, shards=shards))
    return {
        "requests_per_s": rate,
        "shards": shards,
        "memory_mb": round(estimated.memory_mb, 1),
        "cpu_per_s": round(estimated.cpu_s, 4),
        "cold_start_s": round(estimated.cold_start_s, 1),
        "write_units_per_s": estimated.write_units,
        "read_units_per_s": estimated.read_units,
        "dollars_per_million": round(estimated.dollars_per_million, 4),
        "delay_s": round(estimated.delay_s, 2),
        "stops": list(estimated.stops),
    }


def tabled(title: str, rows: list[dict[str, object]]) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in rows[0]:
        table.add_column(heading, justify="right", overflow="fold")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    return table


if __name__ == "__main__":
    main()
