"""A cold start: what importing all that Sluice needs costs, against importing Chalice and boto3 alone."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.measure import Figure

ROUNDS = 9
BARE = "import chalice, boto3"
APP = "import app"
WHOLE = (
    "import app, boto3, chalicelib.edges.state_table, chalicelib.edges.tally_table, chalicelib.edges.waf_ip_sets, "
    "chalicelib.edges.telemetry"
)
TIMED = "import time; start = time.process_time(); {}; print(time.process_time() - start)"


def import_s(statement: str) -> float:
    """CPU seconds of ``statement`` in a fresh interpreter; bytecode is compiled already, as in a package that ran."""
    command = [sys.executable, "-c", TIMED.format(statement)]
    root = Path(__file__).parent.parent
    return float(subprocess.check_output(command, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}))


def figures() -> Iterator[Figure]:
    took: dict[str, list[float]] = {statement: [] for statement in (BARE, APP, WHOLE)}
    for _ in range(ROUNDS):
        for statement, seconds in took.items():
            seconds.append(import_s(statement))
    bare, app, whole = (min(seconds) for seconds in took.values())
    yield Figure(
        "cold start: import of app.py / bare chalice and boto3",
        app / bare,
        "x",
        1.3,
        f"fresh interpreters, {app * 1000:.0f} ms against {bare * 1000:.0f} ms of CPU",
    )
    yield Figure(
        "cold start: all that the first invocation imports / bare chalice and boto3",
        whole / bare,
        "x",
        None,
        f"app.py leaves boto3 and the adapters to the first call; with them {whole * 1000:.0f} ms",
    )
