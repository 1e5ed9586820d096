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
    Estimate,
    Load,
    counting_s,
    estimate,
    merging_s,
    parts_for,
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
    "--json", "file", type=click.Path(path_type=Path, dir_okay=False), help="Also write today's rows to this file."
)
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draw the plot into this SVG file.")
def main(file: Path | None, plot: Path | None) -> None:
    """Model Sluice at 1,000 to 1,000,000 requests per second. The exit status is 1 if the pipeline differs from it."""
    compared = [row for load in SMALL for row in comparison(load)]
    rows = [scaled(rate) for rate in RATES]
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(tabled("The model beside the measured pipeline, one second", compared))
    console.print(tabled("Every consumer reads all; dollars per million requests", chosen(rows, TODAY)))
    console.print(tabled("Split by client hash", chosen(rows, SPLIT)))
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
    model["cpu_s"] = counting_s(load.batch) + (load.shards - 1) * merging_s(load.batch)
    for name in ("write_units", "read_units", "calls", "cpu_s"):
        ratio = measured[name] / model[name]
        within = CPU_WITHIN if name == "cpu_s" else COUNTS_WITHIN
        yield {
            "shards": load.shards,
            "figure": name,
            "modelled": round(model[name], 4),
            "measured": round(measured[name], 4),
            "ratio": round(ratio, 2),
            "holds": 1 / (1 + within) <= ratio <= 1 + within,
        }


def scaled(rate: float) -> dict[str, object]:
    shards = shards_for(rate)
    today = Load(requests_per_second=rate, shards=shards)
    split = Load(requests_per_second=rate, shards=shards, parts=parts_for(today))
    now, then = estimate(today), estimate(split)
    return {
        "requests/s": f"{rate:,}",
        "shards": shards,
        **_columns(now),
        "parts": split.parts,
        **{f"split: {name}": value for name, value in _columns(then).items()},
        "rival $": f"{rival_dollars_per_million(today):.2f}",
        "WAF $": f"{PRICES['waf.request'] * 1e6:.2f}",
    }


def as_row(rate: float) -> dict[str, object]:
    """Returns the estimate for ``rate`` as data. CPU, memory and cold start are those of one consumer."""
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


def _columns(estimated: Estimate) -> dict[str, object]:
    return {
        "writes/s": f"{estimated.write_units:,.0f}",
        "reads/s": f"{estimated.read_units:,.0f}",
        "calls/s": f"{estimated.calls:,.0f}",
        "CPU": f"{estimated.cpu_s * 1000:,.0f} ms",
        "MB": f"{estimated.memory_mb:,.0f}",
        "delay": f"{estimated.delay_s:.1f} s",
        "$": f"{estimated.dollars_per_million:.3f}",
        "stops": ", ".join(estimated.stops) or "-",
    }


def chosen(rows: list[dict[str, object]], names: Iterable[str]) -> list[dict[str, object]]:
    """Returns the columns called ``names``, without the common prefix of their names."""
    columns = list(names)
    return [{name.removeprefix("split: "): row[name] for name in columns} for row in rows]


COLUMNS = ("writes/s", "reads/s", "calls/s", "CPU", "MB", "delay", "$", "stops")
TODAY = ("requests/s", "shards", *COLUMNS, "rival $", "WAF $")
SPLIT = ("requests/s", "shards", "parts", *(f"split: {name}" for name in COLUMNS))


def tabled(title: str, rows: list[dict[str, object]]) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in rows[0]:
        table.add_column(heading, justify="right", overflow="fold")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    return table


if __name__ == "__main__":
    main()
