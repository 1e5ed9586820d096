"""Logs in which it matters who is refused, and what ``sluice demo --traffic FILE --edge SECONDS`` makes of them."""

import json
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from click.testing import CliRunner

from sluice.cli import main
from tests.support.records import cloudfront

START = 1_764_000_000
"""A full minute."""

HOUR = 3600
ATTACK = 36 * HOUR + 900
"""Seconds after the start; by then, those who came in the first day are known."""

BURST = '[[rule]]\nname = "burst"\nlimit = 10\nwindow = "10s"\nblock_for = "1h"\n'


class Request(NamedTuple):
    at: float
    """Seconds after the start."""
    client: str
    path: str = "/"
    method: str = "GET"
    status: int = 200


def played(
    folder: Path, requests: Iterable[Request], rules: str, *, edge_s: float, options: Sequence[str] = ()
) -> dict[str, Any]:
    """Returns the result of ``sluice demo`` for a log of ``requests``, sorted by time."""
    log, rule_file = folder / "log", folder / "rules.toml"
    rule_file.write_text(rules)
    with log.open("wb") as lines:
        for number, (at, client, path, method, status) in enumerate(sorted(requests)):
            lines.write(
                cloudfront(
                    timestamp=f"{START + at:.3f}",
                    c_ip=client,
                    sc_status=str(status),
                    cs_method=method,
                    cs_uri_stem=path,
                    x_edge_request_id=f"id-{number}==",
                )
                + b"\n"
            )
    common = ["--traffic", str(log), "--rules", str(rule_file), "--edge", str(edge_s), "--speed", "max", "--json"]
    run = CliRunner().invoke(main, ["demo", *common, *options])
    assert run.exit_code == 0, run.output
    result: dict[str, Any] = json.loads(run.output)
    assert result["failures"] == []
    return result


def refused(result: dict[str, Any]) -> set[str]:
    """Returns the clients of whom a request was refused."""
    return {client for client, counts in result["clients"].items() if counts["refused"]}


def steady(client: str, rate: float, start: float, end: float, **request: Any) -> Iterator[Request]:
    for number in range(int((end - start) * rate)):
        yield Request(start + number / rate, client, **request)


def regulars(number: int, hour: float, requests: int, random: Random) -> Iterator[Request]:
    """Yields the visits of some clients within a quarter of an hour, each of so many requests within ten seconds."""
    for regular in range(number):
        start = hour * HOUR + random.uniform(0, 890)
        client = f"100.64.{regular // 200}.{regular % 200}"
        yield from steady(client, requests / 10, start, start + 10)


def strangers_among_regulars(strangers: int, of_regulars: int, random: Random) -> tuple[list[Request], frozenset[str]]:
    """Returns the requests of a day and a half, in the last minute of which strangers exceed ``BURST``, and those.

    Regulars come five times, the last time beside the strangers. Each stranger comes once more half a minute later.
    """
    attackers = [str(IPv4Address(number)) for number in random.sample(range(1 << 24, 11 << 24), strangers)]
    requests: list[Request] = []
    for hour in (0, 12, 24, 36, 36.25):
        requests += regulars(of_regulars, hour, 8, random)
    for attacker in attackers:
        start = ATTACK + random.uniform(0, 60)
        requests += [*steady(attacker, 10, start, start + 1.1), Request(ATTACK + 90, attacker)]
    return requests, frozenset(f"{attacker}/32" for attacker in attackers)
