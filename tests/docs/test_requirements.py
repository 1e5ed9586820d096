"""Versions are pinned, and the audit of what is installed reports what it finds and what it could not check."""

import json
import re
from email.message import Message
from importlib.metadata import distributions
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from tests import audit
from tests.audit import ALLOWED, INSTALLED_BY_LAMBDA, Audit, audited, licences, requirement_files

ROOT = Path(__file__).parents[2]
REPORT = {
    "dependencies": [
        {"name": "sound", "version": "1.0", "vulns": []},
        {"name": "broken", "version": "2.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"], "aliases": []}]},
        {"name": "hopeless", "version": "3.0", "vulns": [{"id": "PYSEC-2", "fix_versions": [], "aliases": []}]},
        {"name": "private", "skip_reason": "Dependency not found on PyPI"},
    ]
}


def metadata(**fields: str) -> Message:
    message = Message()
    for name, value in fields.items():
        message[name.replace("_", "-")] = value
    return message


@pytest.mark.parametrize("file", sorted(ROOT.glob("requirements*.txt")), ids=lambda file: file.name)
def test_each_required_package_has_one_version_and_the_hashes_of_its_files(file: Path) -> None:
    text = re.sub(r"^#.*\n", "", file.read_text(), flags=re.MULTILINE).replace("\\\n", "")
    requirements = text.splitlines()
    assert requirements
    for requirement in requirements:
        assert re.match(r"[\w.-]+==[\w.]+( ; [^-]+)?(\s+--hash=sha256:[0-9a-f]{64})+\s*$", requirement), requirement


def test_every_file_with_versions_is_audited_and_lambdas_first() -> None:
    assert requirement_files()[0] == INSTALLED_BY_LAMBDA
    assert set(requirement_files()) == {*ROOT.glob("requirements*.txt"), ROOT / "constraints.txt"}


def test_the_licences_of_everything_installed_are_allowed() -> None:
    assert list(audit.foreign_licences(distributions())) == []


def test_a_licence_is_read_from_whichever_field_names_it() -> None:
    assert licences(metadata(License_Expression="MIT AND PSF-2.0")) == ["MIT", "PSF-2.0"]
    assert licences(metadata(Classifier="License :: OSI Approved :: Apache Software License")) == ["Apache"]
    assert licences(metadata(License="BSD License", Classifier="Topic :: Security")) == ["BSD"]


def test_a_licence_that_is_not_allowed_or_missing_is_a_finding() -> None:
    def installed(name: str, **fields: str) -> Any:
        return SimpleNamespace(name=name, version="1.0", metadata=metadata(**fields))

    packages = [
        installed("free", License_Expression="MIT"),
        installed("strict", License_Expression="MIT AND AGPL-3.0-only"),
        installed("silent", Summary="no licence"),
    ]
    assert list(audit.foreign_licences(packages)) == [
        "strict 1.0: licence AGPL-3.0-only",
        "silent 1.0: licence not named",
    ]
    assert not {"AGPL-3.0-only", ""} & ALLOWED


def test_the_report_tells_findings_from_packages_that_were_not_checked() -> None:
    assert audited(json.dumps(REPORT)) == Audit(
        ["broken 2.0: PYSEC-1, mended in 2.1", "hopeless 3.0: PYSEC-2, mended in no version yet"],
        3,
        {"private": "Dependency not found on PyPI"},
    )


@pytest.mark.parametrize(
    ("answers", "options", "status", "printed"),
    [
        ([Audit([], 9, {})], [], 0, "18 packages checked for vulnerabilities, 0 findings"),
        ([Audit([], 0, {"requirements.txt": "no connection"})], [], 0, "the database could not be reached"),
        ([Audit([], 0, {"requirements.txt": "no connection"})], ["--must-reach"], 1, "Not checked"),
        ([Audit(["broken 2.0: PYSEC-1, mended in 2.1"], 9, {})], [], 1, "broken 2.0: PYSEC-1"),
    ],
)
def test_a_finding_fails_and_a_database_out_of_reach_only_on_demand(
    monkeypatch: pytest.MonkeyPatch, answers: list[Audit], options: list[str], status: int, printed: str
) -> None:
    asked: list[Path] = []

    def answer(file: Path) -> Audit:
        asked.append(file)
        return answers[0]

    monkeypatch.setattr(audit, "vulnerabilities", answer)
    monkeypatch.setattr(audit, "requirement_files", lambda: [INSTALLED_BY_LAMBDA, ROOT / "constraints.txt"])
    monkeypatch.setattr(audit, "distributions", list)
    monkeypatch.setattr("subprocess.run", lambda *args, **rest: SimpleNamespace(returncode=0, stdout=""))
    run = CliRunner().invoke(audit.main, options)
    assert run.exit_code == status, run.output
    assert printed in run.output
    assert len(asked) == (2 if answers[0].checked else 1)
