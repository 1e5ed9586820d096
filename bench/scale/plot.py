"""The plots of ``docs/development/scale.md``."""

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt

from bench.prices import PRICES
from bench.scale.model import TIME_OUT_S, Load, estimate, rival_dollars_per_million, shards_for
from sluice.deploy.sizing import MOST_MB

RATES = [10 ** (3 + step / 12) for step in range(37)]
"""1,000 to 1,000,000 requests per second."""


def draw(file: Path) -> None:
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "sluice"
    loads = [Load(requests_per_second=rate, shards=shards_for(rate)) for rate in RATES]
    estimates = [estimate(load) for load in loads]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    left.loglog(RATES, [each.dollars_per_million for each in estimates], label="Sluice")
    left.loglog(
        RATES, [rival_dollars_per_million(load) for load in loads], label="one counter per client, writes alone"
    )
    left.axhline(PRICES["waf.request"] * 1e6, color="grey", linestyle=":", label="AWS WAF, its price per request")
    left.set_ylabel("dollars per million requests")
    right.loglog(RATES, [each.cpu_s for each in estimates], label="CPU, seconds per second")
    right.loglog(
        RATES,
        [each.cold_start_s / (TIME_OUT_S / 2) for each in estimates],
        "--",
        label="cold start, of half the time-out",
    )
    right.loglog(RATES, [each.memory_mb / MOST_MB for each in estimates], "-.", label=f"memory, of {MOST_MB:,} MB")
    right.axhline(1, color="grey", linestyle=":", label="limit")
    right.set_ylabel("the evaluator's share of its limits")
    for axes in (left, right):
        axes.set_xlabel("requests per second")
        axes.grid(visible=True, which="major", alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
