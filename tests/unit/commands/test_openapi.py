"""``sluice openapi`` prints the document without a deployment."""

import json
from pathlib import Path

from click.testing import CliRunner

from chalicelib.api.openapi import document
from sluice.cli import main


def test_the_document_is_printed_or_written_without_a_deployment(tmp_path: Path) -> None:
    printed = CliRunner().invoke(main, ["openapi"], env={"AWS_DEFAULT_REGION": "", "SLUICE_URL": ""})
    assert json.loads(printed.stdout) == document("token")
    path = tmp_path / "openapi.json"
    assert CliRunner().invoke(main, ["openapi", "--auth", "iam", "--out", str(path)]).exit_code == 0
    assert json.loads(path.read_text()) == document("iam")
