"""``sluice dev`` as a process: it prints an address and tokens, and blocks attackers in the lines it reads."""

import gzip
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chalicelib.admin.blocks import BlockPage
from chalicelib.admin.status import Status
from sluice.api_client import ApiClient, bearer

ROOT = Path(__file__).parents[2]
RULES = """
[[rule]]
name = "burst"
limit = 20
window = "5s"
block_for = "10m"
"""
PATIENCE_S = 15.0


@contextmanager
def dev(*words: str) -> Iterator[tuple[subprocess.Popen[bytes], ApiClient]]:
    """Yields the running command and a client of its API with the operator's token."""
    command = [sys.executable, "-m", "sluice", "dev", "--port", "0", *words]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            greeting = ""
            while "In a shell" not in greeting:
                line = process.stdout.readline().decode()
                assert line, greeting
                greeting += line
            url, token = re.search(r"SLUICE_URL=(\S+) SLUICE_TOKEN=(\S+)", greeting).groups()  # type: ignore[union-attr]
            yield process, ApiClient(url, bearer(token))
        finally:
            process.send_signal(signal.SIGINT)
            try:
                assert process.wait(PATIENCE_S) == 0
            finally:
                process.kill()


def attack() -> bytes:
    now = time.time() - 1
    return b"".join(
        f"{now + n / 100:.3f}\t203.0.113.9\t200\tGET\twww.example.com\t/\tid-{n:09d}==\tagent\t-\n".encode()
        for n in range(40)
    )


def test_lines_that_cannot_be_read_are_explained_on_the_terminal(rules: str) -> None:
    with dev("--rules", rules) as (process, _):
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"192.0.2.1 - - [09/Okt/2025]\n" * 3000)
        process.stdin.flush()
        lines = iter(process.stdout.readline, b"")
        told = next(line for line in lines if b"Not counted" in line)
    fault = rb"Not counted: [\d,]+ lines have none of the known formats, such as a record: 192\.0\.2\.1 - - "
    assert re.match(fault, told)


def blocked(client: ApiClient) -> set[str]:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        networks = {block.network for block in client.get("/v1/blocks", BlockPage).value.blocks}
        if networks:
            return networks
        time.sleep(0.1)
    return set()


@pytest.fixture
def rules(tmp_path: Path) -> str:
    path = tmp_path / "rules.toml"
    path.write_text(RULES)
    return str(path)


def test_lines_on_standard_input_are_enforced(rules: str) -> None:
    with dev("--rules", rules) as (process, client):
        assert process.stdin is not None
        process.stdin.write(attack())
        process.stdin.flush()
        assert blocked(client) == {"203.0.113.9/32"}


def test_a_growing_log_is_followed(rules: str, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with dev("--rules", rules, "--follow", str(log)) as (_, client):
        log.write_bytes(attack())
        assert blocked(client) == {"203.0.113.9/32"}


def test_files_of_a_folder_count_like_objects(rules: str, tmp_path: Path) -> None:
    folder = tmp_path / "objects" / "2026"
    folder.mkdir(parents=True)
    with dev("--rules", rules, "--objects", str(folder.parent)) as (_, client):
        (folder / "one.log.gz").write_bytes(gzip.compress(attack()))
        assert blocked(client) == {"203.0.113.9/32"}


def test_made_up_traffic_shows_blocks_at_once() -> None:
    with dev("--traffic", "demo", "--past", "2m") as (_, client):
        status = client.get("/v1/status", Status).value
        assert status.blocks.active > 20
        assert status.ingest.requests_per_second > 10
        assert client.get("/v1/me", dict).document["role"] == "operator"
