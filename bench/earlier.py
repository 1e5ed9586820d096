"""The same work, done in the same run by the code of an earlier version itself, not by a model of it."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.measure import Figure

COMMIT = "0dbc2e3"
"""The last version in which each detection, and each publish, read every block."""

ROOT = Path(__file__).parent.parent
COPIED = ("clocks.py", "limits.py", "earlier_work.py")
"""Modules of ``bench`` that are run in the tree of ``COMMIT``."""


class PeerMissing(Exception):
    """The repository does not have the commit: the clone is shallow, or there is none."""


@contextmanager
def earlier_tree() -> Iterator[Path]:
    """Yields a folder with the files of the earlier version. Raises PeerMissing."""
    archive = subprocess.run(["git", "archive", COMMIT], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        raise PeerMissing(f"the peer is missing: git archive {COMMIT}: {archive.stderr.decode().strip()}")
    with TemporaryDirectory() as folder:
        with tarfile.open(fileobj=BytesIO(archive.stdout)) as tar:
            tar.extractall(folder, filter="data")
        yield Path(folder)


def earlier(work: str, blocks: int) -> Mapping[str, float]:
    """Returns what ``bench.earlier_work`` prints for ``work`` with ``blocks`` blocks in force.

    Raises PeerMissing, and CalledProcessError if that code fails.
    """
    with earlier_tree() as folder:
        for name in COPIED:
            shutil.copy(ROOT / "bench" / name, folder / "bench" / name)
        command = [sys.executable, "-m", "bench.earlier_work", work, str(blocks)]
        environment = {**os.environ, "PYTHONPATH": str(folder)}
        ran = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, check=True)
    figures: Mapping[str, float] = json.loads(ran.stdout)
    return figures


def against_earlier(
    work: str, blocks: int, ours: Mapping[str, tuple[str, float]], budget: float | None = None, how: str = ""
) -> Iterator[Figure]:
    """Yields the ratios of ``ours`` to what the earlier version takes; one figure without a value if it is missing.

    ``ours``: by the key in ``earlier``'s answer, the figure's name and value. ``budget``: of each ratio.
    """
    try:
        peer = earlier(work, blocks)
    except PeerMissing as exc:
        yield Figure(f"{work} / {COMMIT}", float("nan"), "x", None, str(exc))
        return
    for key, (name, value) in ours.items():
        yield Figure(f"{name} / {COMMIT}", value / peer[key], "x", budget, f"{value:.4g} / {peer[key]:,.4g}{how}")
