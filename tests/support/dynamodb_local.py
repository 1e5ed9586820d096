"""AWS's own DynamoDB Local, run for the length of a test session. ``make dev`` fetches it."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

JAR = Path(__file__).parents[2] / ".cache" / "dynamodb-local" / "DynamoDBLocal.jar"
READY_WITHIN_S = 60


def missing() -> str | None:
    """What DynamoDB Local lacks to run here; None if nothing."""
    if shutil.which("java") is None:
        return "there is no java"
    return None if JAR.exists() else f"there is no {JAR.relative_to(JAR.parents[2])}; 'make dev' fetches it"


@contextmanager
def running() -> Iterator[str]:
    """The endpoint of a DynamoDB Local of our own; it keeps everything in memory."""
    port = free_port()
    command = ["java", f"-Djava.library.path={JAR.parent / 'DynamoDBLocal_lib'}", "-jar", str(JAR)]
    with TemporaryFile() as output:
        process = subprocess.Popen(
            [*command, "-inMemory", "-disableTelemetry", "-port", str(port)], stdout=output, stderr=output
        )
        try:
            if not listens(port, process):
                output.seek(0)
                said = output.read().decode(errors="replace")
                raise RuntimeError(f"DynamoDB Local did not start within {READY_WITHIN_S} s:\n{said}")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def free_port() -> int:
    """One that nobody on this machine listens to."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int, process: "subprocess.Popen[bytes]") -> bool:
    """Whether ``process`` has come to listen to ``port``, after waiting for it."""
    give_up = time.monotonic() + READY_WITHIN_S
    while process.poll() is None and time.monotonic() < give_up:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return True
    return False
