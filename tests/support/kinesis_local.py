"""kinesis-local, run for the length of a test session: slow, and right about resharding. ``make dev`` fetches it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from tests.support.dynamodb_local import READY_WITHIN_S, free_port, listens

SCRIPT = Path(__file__).parent.parent.parent / ".cache" / "kinesis-local" / "main.js"
LOOPBACK = Path(__file__).parent / "loopback.js"
AT_ONCE = dict.fromkeys(
    ("CREATE_STREAM_DURATION", "DELETE_STREAM_DURATION", "SPLIT_SHARD_DURATION", "MERGE_SHARDS_DURATION"), "0ms"
)


def missing() -> str | None:
    """What kinesis-local lacks to run here; None if nothing."""
    if shutil.which("node") is None:
        return "there is no node"
    return None if SCRIPT.exists() else f"there is no {SCRIPT.relative_to(SCRIPT.parents[2])}; 'make dev' fetches it"


@contextmanager
def running() -> Iterator[str]:
    """The endpoint of a kinesis-local of our own; it listens on this machine only."""
    port = free_port()
    ports = {"KINESIS_MOCK_PLAIN_PORT": str(port), "KINESIS_MOCK_TLS_PORT": str(free_port())}
    with TemporaryFile() as output:
        # It reads its certificate from where it is started.
        process = subprocess.Popen(
            ["node", "-r", str(LOOPBACK), str(SCRIPT)],
            cwd=SCRIPT.parent,
            env={**os.environ, **AT_ONCE, **ports},
            stdout=output,
            stderr=output,
        )
        try:
            if not listens(port, process):
                output.seek(0)
                said = output.read().decode(errors="replace")
                raise RuntimeError(f"kinesis-local did not start within {READY_WITHIN_S} s:\n{said}")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()
