"""AWS's own DynamoDB Local, which keeps everything in memory."""

from contextlib import AbstractContextManager

from tests.support import local_server

JAR = local_server.ROOT / ".cache" / "dynamodb-local" / "DynamoDBLocal.jar"


def missing() -> str | None:
    """Returns why DynamoDB Local cannot run here; None if it can."""
    return local_server.missing("java", JAR)


def running() -> AbstractContextManager[str]:
    """Returns a context that runs a DynamoDB Local and yields its endpoint."""
    port = local_server.free_port()
    command = ["java", f"-Djava.library.path={JAR.parent / 'DynamoDBLocal_lib'}", "-jar", str(JAR)]
    options = ["-inMemory", "-disableTelemetry", "-port", str(port)]
    return local_server.running("DynamoDB Local", [*command, *options], port)
