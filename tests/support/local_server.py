"""Servers of other projects that tests run on this machine, each for the length of a test session."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

ROOT = Path(__file__).parents[2]
READY_WITHIN_S = 60


def missing(program: str, file: Path) -> str | None:
    """Returns why ``program`` cannot run ``file`` here; None if it can. ``make dev`` fetches the file."""
    if shutil.which(program) is None:
        return f"there is no {program}"
    return None if file.exists() else f"there is no {file.relative_to(ROOT)}; 'make dev' fetches it"


@contextmanager
def running(
    name: str,
    command: Sequence[str],
    port: int,
    *,
    directory: Path = ROOT,
    settings: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """Yields the endpoint of a new server on ``port``, and ends the server afterwards."""
    with TemporaryFile() as output:
        process = subprocess.Popen(
            command, cwd=directory, env={**os.environ, **(settings or {})}, stdout=output, stderr=output
        )
        try:
            if not _listens(port, process):
                output.seek(0)
                printed = output.read().decode(errors="replace")
                raise RuntimeError(f"{name} did not start within {READY_WITHIN_S} s:\n{printed}")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def free_port() -> int:
    """Returns a port that no program on this machine listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int, process: "subprocess.Popen[bytes]") -> bool:
    """Returns whether ``process`` listens on ``port``, after waiting until it does or ends."""
    deadline = time.monotonic() + READY_WITHIN_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return True
    return False
