"""The plots of ``docs/development/scale.md``."""

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt

from bench.prices import PRICES
from bench.scale.model import TABLE_UNITS, Load, estimate, parts_for, rival_dollars_per_million, shards_for

RATES = [10 ** (3 + step / 12) for step in range(37)]
"""1,000 to 1,000,000 requests per second."""


def draw(file: Path) -> None:
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "sluice"
    today = [Load(requests_per_second=rate, shards=shards_for(rate)) for rate in RATES]
    split = [
        Load(requests_per_second=load.requests_per_second, shards=load.shards, parts=parts_for(load)) for load in today
    ]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    left.loglog(RATES, [estimate(load).dollars_per_million for load in today], label="Sluice, every consumer reads all")
    left.loglog(
        RATES, [estimate(load).dollars_per_million for load in split], "--", label="Sluice, split by client hash"
    )
    left.loglog(
        RATES, [rival_dollars_per_million(load) for load in today], label="one counter per client, writes alone"
    )
    left.axhline(PRICES["waf.request"] * 1e6, color="grey", linestyle=":", label="AWS WAF, its price per request")
    left.set_ylabel("dollars per million requests")
    right.loglog(RATES, [estimate(load).read_units for load in today], label="every consumer reads all")
    right.loglog(RATES, [estimate(load).read_units for load in split], "--", label="split by client hash")
    right.axhline(TABLE_UNITS, color="grey", linestyle=":", label="default quota of a table")
    right.set_ylabel("DynamoDB read units per second")
    for axes in (left, right):
        axes.set_xlabel("requests per second")
        axes.grid(visible=True, which="major", alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
