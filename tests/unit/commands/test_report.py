"""``sluice report``: writes the page and the plots."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from sluice.cli import main
from tests.support import replay_logs as logs
from tests.support.replay_logs import every

MADE = every(0.1, 0, 20)


@pytest.mark.slow
def test_the_command_writes_the_page_and_the_plots(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("".join(logs.waf(hit) + "\n" for hit in MADE))
    page_at, pictures = tmp_path / "report.html", tmp_path / "pictures"
    result = CliRunner().invoke(main, ["report", str(tmp_path / "log"), "-o", str(page_at), "--png", str(pictures)])
    assert result.exit_code == 0, result.output
    assert page_at.read_text().startswith("<!DOCTYPE html>")
    assert sorted(path.name for path in pictures.iterdir()) == ["blocks.png", "over-time.png", "peaks.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures.iterdir())


@pytest.mark.parametrize("text", ["", "no log\n"])
def test_without_requests_there_is_no_page(text: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(text)
    result = CliRunner().invoke(main, ["report", str(tmp_path / "log"), "-o", str(tmp_path / "report.html")])
    assert result.exit_code == 1
    assert "no requests in these files" in result.stderr
    assert not (tmp_path / "report.html").exists()
