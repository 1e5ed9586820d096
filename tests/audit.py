"""``python -m tests.audit``: conflicts, licences and known vulnerabilities of everything that is installed.

pip-audit asks PyPI about vulnerabilities. Where PyPI cannot be reached, or stands behind a mirror without them, this is
said, and is no failure unless ``--must-reach`` is given. The exit status is 1 if there is a finding.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any, NamedTuple

import click

ROOT = Path(__file__).parent.parent
PIP_AUDIT = ROOT / ".cache/audit/bin/pip-audit"
INSTALLED_BY_LAMBDA = ROOT / "requirements.txt"

ALLOWED = frozenset(
    (
        *("0BSD", "Apache", "Apache-2.0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "CNRI-Python", "ISC"),
        *("MIT", "MIT No Attribution", "MIT-0", "MIT-CMU", "MPL-2.0", "Mozilla Public 2.0"),
        *("PSF-2.0", "Python Software Foundation", "Unlicense", "Zlib"),
    )
)
"""SPDX identifiers, and what is left of a classifier without "License", "Software" after Apache, and abbreviations."""


class Audit(NamedTuple):
    findings: Sequence[str]
    checked: int
    """Packages that the database knows."""
    unchecked: Mapping[str, str]
    """Reason by package."""


def requirement_files() -> list[Path]:
    """Returns the files with versions: that of Lambda first."""
    return [INSTALLED_BY_LAMBDA, ROOT / "constraints.txt", *sorted(ROOT.glob("requirements-*.txt"))]


def licences(metadata: Any) -> list[str]:
    """Returns the licences that a package's metadata names, by whichever field it uses."""
    classifiers = [text.rpartition(" :: ")[2] for text in metadata.get_all("Classifier", []) if "License ::" in text]
    text = metadata.get("License-Expression") or "; ".join(classifiers) or metadata.get("License") or ""
    parts = re.split(r" AND | OR |; ", text.replace("Apache Software", "Apache"))
    return [re.sub(r" License\b| \([^)]*\)", "", part).strip() for part in parts]


def foreign_licences(installed: Iterable[Distribution]) -> Iterator[str]:
    """Yields a finding for each licence that is not in ``ALLOWED``, and for each package that names none."""
    for distribution in installed:
        for licence in licences(distribution.metadata):
            if licence not in ALLOWED:
                yield f"{distribution.name} {distribution.version}: licence {licence or 'not named'}"


def audited(report: str) -> Audit:
    """Reads the JSON of pip-audit. Raises ValueError for anything else."""
    findings: list[str] = []
    unchecked: dict[str, str] = {}
    dependencies = json.loads(report)["dependencies"]
    for dependency in dependencies:
        if "skip_reason" in dependency:
            unchecked[dependency["name"]] = dependency["skip_reason"]
        for vulnerability in dependency.get("vulns", []):
            mended = ", ".join(vulnerability["fix_versions"]) or "no version yet"
            findings.append(f"{dependency['name']} {dependency['version']}: {vulnerability['id']}, mended in {mended}")
    return Audit(findings, len(dependencies) - len(unchecked), unchecked)


def vulnerabilities(file: Path) -> Audit:
    """Asks PyPI about each package of a requirement file; in vain if there is no connection."""
    options = ["--format", "json", "--progress-spinner", "off", "--disable-pip", "--no-deps", "--timeout", "20"]
    done = subprocess.run([PIP_AUDIT, *options, "-r", file], check=False, capture_output=True, text=True)
    try:
        return audited(done.stdout)
    except ValueError:
        return Audit([], 0, {file.name: done.stderr.strip().rpartition("\n")[2]})


def known_vulnerabilities(files: Sequence[Path]) -> Audit:
    """Returns the audit of all ``files``, or of the first one if the database knows none of its packages."""
    audits: list[Audit] = []
    for file in files:
        audits.append(vulnerabilities(file))
        if not audits[0].checked:
            break
    return Audit(
        sorted({finding for audit in audits for finding in audit.findings}),
        sum(audit.checked for audit in audits),
        {name: reason for audit in audits for name, reason in audit.unchecked.items()},
    )


@click.command()
@click.option("--must-reach", is_flag=True, help="Fail if a package could not be checked for vulnerabilities.")
def main(must_reach: bool) -> None:
    """Look for conflicts, licences that are not allowed, and known vulnerabilities."""
    conflicts = subprocess.run([sys.executable, "-m", "pip", "check"], check=False, capture_output=True, text=True)
    findings = conflicts.stdout.splitlines() if conflicts.returncode else []
    findings += foreign_licences(distributions())
    audit = known_vulnerabilities(requirement_files())
    findings += audit.findings
    for finding in findings:
        click.echo(finding)
    if audit.unchecked:
        names = ", ".join(sorted(audit.unchecked))
        click.echo(f"Not checked for vulnerabilities, because the database could not be reached or knows none: {names}")
    click.echo(f"{audit.checked} packages checked for vulnerabilities, {len(findings)} findings")
    sys.exit(bool(findings) or (must_reach and bool(audit.unchecked)))


if __name__ == "__main__":
    main()
