"""The scale model agrees with the pipeline at sizes that can be run, and the documents agree with both."""

import json
import re
from importlib import import_module
from pathlib import Path

import pytest

from bench.__main__ import SUITES
from bench.scale.__main__ import RATES, scaled
from bench.scale.model import (
    ITEM_BYTES,
    RECORDS_PER_SHARD,
    TIME_OUT_S,
    Load,
    estimate,
    reading,
    rival_dollars_per_million,
    shards_for,
)
from bench.scale.pipeline import measure, slices_and_missing
from sluice.deploy.stage import MOST_SHARDS

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 2, 4, 8])
@pytest.mark.parametrize("per_shard", [50, 400])
def test_units_and_calls_are_those_of_the_pipeline(shards: int, per_shard: int) -> None:
    load = Load(requests_per_second=per_shard * shards, shards=shards)
    model, measured = estimate(load), measure(load)
    assert measured.calls == pytest.approx(model.calls, rel=0.15)
    assert measured.read_units == pytest.approx(model.read_units, rel=0.15)
    assert measured.write_units == pytest.approx(model.write_units, rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("shards", [12, 36, 120, 360])
def test_the_reads_of_the_logs_are_those_of_the_reader(shards: int) -> None:
    load = Load(requests_per_second=800 * shards, shards=shards)
    model = reading(load, ITEM_BYTES)
    assert slices_and_missing(load) == pytest.approx(
        (model.slices / model.seconds, model.missing / model.seconds), rel=0.15
    )


def test_write_units_grow_with_the_shards() -> None:
    small, large = (Load(requests_per_second=500 * shards, shards=shards) for shards in (50, 200))
    assert estimate(large).write_units == pytest.approx(4 * estimate(small).write_units, rel=0.15)


def test_one_evaluator_suffices_for_as_many_shards_as_setup_accepts() -> None:
    for shards in (2, 12, 120, MOST_SHARDS):
        rate = shards / 1.2 * RECORDS_PER_SHARD
        assert not estimate(Load(requests_per_second=rate, shards=shards)).stops
    beyond = Load(requests_per_second=1_300_000, shards=shards_for(1_300_000))
    assert set(estimate(beyond).stops) == {"memory", "CPU"}


def test_a_cold_start_takes_at_most_half_of_the_time_out_at_every_rate_of_the_page() -> None:
    for rate in RATES:
        assert estimate(Load(requests_per_second=rate, shards=shards_for(rate))).cold_start_s <= TIME_OUT_S / 2


def test_the_backlog_of_a_cold_start_is_worked_off_within_a_minute_up_to_300_000_requests_per_second() -> None:
    for rate in RATES[: RATES.index(300_000) + 1]:
        started = estimate(Load(requests_per_second=rate, shards=shards_for(rate)))
        assert started.cold_start_s / (1 - started.cpu_s) < 60


def test_the_model_has_the_evaluators_time_out() -> None:
    functions = json.loads((DOCS.parent / ".chalice" / "config.json").read_text())["lambda_functions"]
    assert functions["evaluate"]["lambda_timeout"] == TIME_OUT_S


def test_it_is_cheaper_than_one_counter_per_client_at_every_rate_it_sustains() -> None:
    for rate in (1_000, 10_000, 80_000):
        load = Load(requests_per_second=rate, shards=shards_for(rate))
        assert estimate(load).dollars_per_million < rival_dollars_per_million(load) / 5


def test_the_page_on_scale_shows_the_figures_of_the_model() -> None:
    rows = [scaled(rate) for rate in RATES]
    table = [f"| {' | '.join(rows[0])} |", "|" + "---:|" * len(rows[0])]
    table += [f"| {' | '.join(map(str, row.values()))} |" for row in rows]
    text = "\n".join(table)
    assert text in (DOCS / "development" / "scale.md").read_text(), text


def test_the_page_on_benchmarks_lists_exactly_the_figures() -> None:
    page = (DOCS / "development" / "benchmarks.md").read_text()
    _, _, table = page.partition("| figure | value |")
    documented = set(re.findall(r"^\| ([^|]+?) \| [-\d.,e+]+", table, re.MULTILINE))
    sources = [Path(str(import_module(place.partition(":")[0]).__file__)).read_text() for place in SUITES.values()]
    # The names, up to the first part that a run fills in.
    stems = set(re.findall(r'Figure\(\s*f?"([^"{]+)', "".join(sources)))
    assert len(stems) > 20
    for stem in stems:
        assert any(name.startswith(stem) for name in documented), f"not in the page: {stem}"
    for name in documented:
        assert any(name.startswith(stem) for stem in stems), f"no such figure: {name}"
