"""kinesis-local, which is slow but reshards as Kinesis does. It listens on this machine only."""

from contextlib import AbstractContextManager
from pathlib import Path

from tests.support import local_server

SCRIPT = local_server.ROOT / ".cache" / "kinesis-local" / "main.js"
LOOPBACK = Path(__file__).parent / "loopback.js"
NO_DELAYS = dict.fromkeys(
    ("CREATE_STREAM_DURATION", "DELETE_STREAM_DURATION", "SPLIT_SHARD_DURATION", "MERGE_SHARDS_DURATION"), "0ms"
)


def missing() -> str | None:
    """Returns why kinesis-local cannot run here; None if it can."""
    return local_server.missing("node", SCRIPT)


def running() -> AbstractContextManager[str]:
    """Returns a context that runs a kinesis-local and yields its endpoint."""
    port = local_server.free_port()
    ports = {"KINESIS_MOCK_PLAIN_PORT": str(port), "KINESIS_MOCK_TLS_PORT": str(local_server.free_port())}
    command = ["node", "-r", str(LOOPBACK), str(SCRIPT)]
    # It reads its certificate from the directory it is started in.
    return local_server.running(
        "kinesis-local", command, port, directory=SCRIPT.parent, settings={**NO_DELAYS, **ports}
    )
