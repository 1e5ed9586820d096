"""The scale model agrees with the pipeline at sizes that can be run, and the documents agree with both."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from bench.__main__ import SUITES
from bench.scale.__main__ import RATES, SPLIT, TODAY, chosen, scaled
from bench.scale.model import Load, estimate, rival_dollars_per_million, shards_for
from bench.scale.pipeline import measure

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 2, 5])
@pytest.mark.parametrize("per_shard", [50, 400])
def test_units_and_calls_are_those_of_the_pipeline(shards: int, per_shard: int) -> None:
    load = Load(requests_per_second=per_shard * shards, shards=shards)
    model, measured = estimate(load), measure(load)
    assert measured.calls == model.calls
    assert measured.read_units == pytest.approx(model.read_units, rel=0.15)
    assert measured.write_units == pytest.approx(model.write_units, rel=0.15)


def test_reads_grow_with_the_square_of_the_shards_unless_tallies_are_split() -> None:
    small, large = (Load(requests_per_second=500 * shards, shards=shards) for shards in (50, 200))
    assert estimate(large).read_units > 12 * estimate(small).read_units
    split = [Load(requests_per_second=load.requests_per_second, shards=load.shards, parts=8) for load in (small, large)]
    assert estimate(split[1]).read_units < 5 * estimate(split[0]).read_units


def test_one_design_stops_at_about_a_hundred_shards() -> None:
    assert not estimate(Load(requests_per_second=30_000, shards=shards_for(30_000))).stops
    assert "table quota" in estimate(Load(requests_per_second=120_000, shards=shards_for(120_000))).stops


def test_it_is_cheaper_than_one_counter_per_client_at_every_rate_it_sustains() -> None:
    for rate in (1_000, 10_000, 80_000):
        load = Load(requests_per_second=rate, shards=shards_for(rate))
        assert estimate(load).dollars_per_million < rival_dollars_per_million(load) / 5


@pytest.mark.parametrize("names", [TODAY, SPLIT], ids=["today", "split"])
def test_the_page_on_scale_shows_the_figures_of_the_model(names: tuple[str, ...]) -> None:
    rows = chosen([scaled(rate) for rate in RATES], names)
    table = [f"| {' | '.join(rows[0])} |", "|" + "---:|" * len(names)]
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
