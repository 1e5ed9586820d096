"""``sluice dev``: Sluice on this machine, with its API and page."""

import secrets
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Protocol

import click
from rich.console import Console

import app as deployed
from chalicelib.bootstrap import compose, running_in
from chalicelib.config import ConfigError
from chalicelib.core.durations import parse_duration
from chalicelib.core.rules import RulesError
from chalicelib.core.tokens import SECRET_BYTES, Role, Token, issue
from sluice.commands.times import Duration
from sluice.demo.run import TICK_S, Traffic
from sluice.demo.site import open_all_hours
from sluice.demo.traffic import ALLOWED
from sluice.local.cloud import DEFAULT_RULES, LocalCloud
from sluice.local.open_clock import OpenClock
from sluice.local.server import HOST, Answer, Gateway, serve
from sluice.local.sources import FollowedFile, PipedLines

SITE_RULES = Path(__file__).parent.parent / "demo" / "site.toml"
TALLIES_KEPT_S = 3 * 3600
EXPIRY_S = 60.0
FOR_EVER = float("inf")


class Lines(Protocol):
    def lines(self) -> Iterator[bytes]: ...


class OpenGateway(Gateway):
    """A gateway whose calls are made in the cloud's own thread, while the cloud runs."""

    def __init__(self, container: Callable[[], object], clock: OpenClock) -> None:
        super().__init__(deployed.app, container)  # type: ignore[arg-type] # running_in's result is a context manager
        self._clock = clock

    def answer(self, *args: object, **kwargs: object) -> Answer:
        return self._clock.hand_over(lambda: super(OpenGateway, self).answer(*args, **kwargs))  # type: ignore[arg-type]


@click.command()
@click.option("--traffic", type=click.Choice(("demo",)), help="Made-up visitors and attackers, without end.")
@click.option(
    "--follow", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Log file to follow; may rotate."
)
@click.option(
    "--rules", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE", help="Rules to start with."
)
@click.option("--fields", metavar="NAMES", help="Fields of the CloudFront lines, separated by commas.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0: any free one.")
@click.option("--past", type=Duration(), default="5m", show_default=True, help="Made-up traffic before the start.")
@click.option("--seed", type=int, default=1, show_default=True, help="For everything that is left to chance.")
def dev(
    traffic: str | None, follow: Path | None, rules: Path | None, fields: str | None, port: int, past: str, seed: int
) -> None:
    """Run Sluice on this machine, with the admin API and the operator's page, until it is interrupted.

    Log lines come from standard input, from a file that is followed, or are made up. Lines count at the time they
    tell: old ones are late and block nobody.

    \b
    sluice dev --traffic demo
    sluice dev --follow /var/log/cloudfront.log --rules rules.toml
    ssh edge tail -F access.log | sluice dev
    """
    if traffic is not None and follow is not None:
        raise click.UsageError("Give --traffic or --follow, not both.")
    console = Console(highlight=False)
    clock = OpenClock(time.time() - parse_duration(past) if traffic else None)
    text = (rules or (SITE_RULES if traffic else DEFAULT_RULES)).read_text(encoding="utf-8")
    settings = {"CLOUDFRONT_FIELDS": fields} if fields else {}
    try:
        cloud = LocalCloud(clock, rules=text, seed=seed, settings=settings, allow=ALLOWED if traffic else ())
    except RulesError as exc:
        raise click.ClickException("\n".join(f"{rules}: {problem}" for problem in exc.problems)) from exc
    except ConfigError as exc:
        raise click.ClickException(str(exc)) from exc
    if traffic:
        pump = Traffic(cloud, open_all_hours(seed, start_in=20.0), seed=seed).tick
    else:
        source: Lines = FollowedFile(follow) if follow else PipedLines(sys.stdin.buffer)
        pump = _feeding(cloud, source)
    tokens = {role: _token(role, int(time.time())) for role in Role}
    world = replace(cloud.world, tokens=lambda: tuple(kept for _, kept in tokens.values()))
    services = compose(cloud.config, world)
    try:
        server = serve(OpenGateway(lambda: running_in(services), clock), port)
    except OSError as exc:
        raise click.ClickException(f"port {port} on {HOST}: {exc.strerror}; --port 0 takes any free one") from exc
    cloud.start()
    now = cloud.now()
    cloud.loop.every(TICK_S, pump, first=now)
    cloud.loop.every(EXPIRY_S, lambda: cloud.tally_logs.expire(int((cloud.now() - TALLIES_KEPT_S) * 1000)), first=now)
    with console.status("Running the made-up past ...") if traffic else console.status("Starting ..."):
        cloud.loop.run(time.time())
    Thread(target=server.serve_forever, daemon=True).start()
    _greet(console, f"http://{HOST}:{server.server_address[1]}/", {role: text for role, (text, _) in tokens.items()})
    try:
        cloud.loop.run(FOR_EVER)
    except KeyboardInterrupt:
        console.print("Stopped. Nothing is kept.")
    finally:
        server.shutdown()
        server.server_close()


def _feeding(cloud: LocalCloud, source: Lines) -> Callable[[], None]:
    def feed() -> None:
        for line in source.lines():
            cloud.put(line)

    return feed


def _token(role: Role, now: int) -> tuple[str, Token]:
    return issue(f"dev-{role}", role, secret=secrets.token_bytes(SECRET_BYTES), now=now)


def _greet(console: Console, url: str, tokens: dict[Role, str]) -> None:
    """To standard output, each on a line of its own, so that a script can read it as well."""
    console.print(f"[bold]The page:[/]  {url}", soft_wrap=True)
    for role, text in tokens.items():
        console.print(f"{role + ' token:':16}{text}", soft_wrap=True)
    console.print(f"In a shell:     export SLUICE_URL={url} SLUICE_TOKEN={tokens[Role.OPERATOR]}", soft_wrap=True)
    console.print("The tokens are good until this ends, with Ctrl-C. Nothing is kept.")
