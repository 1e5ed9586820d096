"""Deployment package and template, built by ``chalice package`` from a clone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from sluice.deploy.resources.chalice_config import Project
from tests.support.deploy.account import REGION, ROOT, as_committed

CHALICE = [sys.executable, "-c", "import sys; from chalice.cli import main; sys.exit(main())"]
WHEELS = ROOT / ".cache" / "wheels"
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(WHEELS)} if WHEELS.exists() else {}
"""Makes pip use the wheels that ``make dev`` downloads; without them it asks its index."""

SHIPPED = ("app.py", "requirements.txt", "chalicelib", ".chalice")


def clone(directory: Path) -> Path:
    """Copies the files of the repository that Chalice reads, and returns the directory."""
    for name in SHIPPED:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "deployments", "deployed", "policy-*-*")
            shutil.copytree(source, directory / name, ignore=ignored)
        else:
            shutil.copy(source, directory / name)
    as_committed(Project(directory))
    return directory


def chalice(project: Path, *arguments: str, **environment: str) -> str:
    """Runs a chalice command and returns what it prints. Fails if the command does."""
    settings = {"AWS_DEFAULT_REGION": REGION, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    done = subprocess.run(
        [*CHALICE, *arguments],
        cwd=project,
        env={**os.environ, **OFFLINE, **settings, **environment},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # Chalice omits packages that it cannot install, with a warning only.
    assert "Could not install" not in done.stdout + done.stderr
    return done.stdout
