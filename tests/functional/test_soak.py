"""A soak test of a few seconds."""

import json
from pathlib import Path

from click.testing import CliRunner

from bench.soak import main

TIMED = ("lag", "memory")
"""Figures that other load on the machine distorts in so short a time."""


def test_a_short_soak_counts_once_blocks_and_releases(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    result = CliRunner().invoke(main, ["--minutes", "0.1", "--simulated-hours", "0.5", "--json", str(file)])
    figures = json.loads(file.read_text())
    assert {figure["name"].partition(":")[0] for figure in figures} == {"full speed", "simulated days"}
    assert all(
        figure["holds"] in (True, None) for figure in figures if not any(word in figure["name"] for word in TIMED)
    )
    assert result.exit_code == any(figure["holds"] is False for figure in figures)
    records = {figure["name"]: figure["value"] for figure in figures}
    assert records["full speed: records"] > 3_000
    assert records["simulated days: blocks"] > 10
