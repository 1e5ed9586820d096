"""``sluice dev``: run Sluice on this machine, with its API and page."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from datetime import datetime
from functools import partial
from math import inf
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from chalicelib.config import ConfigError
from chalicelib.core.announcements import Announcement
from chalicelib.core.durations import format_duration, parse_duration
from chalicelib.core.tally import LONGEST_RETENTION_S
from chalicelib.core.tokens import Role
from chalicelib.core.wording import plural
from chalicelib.edges.https_feeds import HttpsFeeds
from chalicelib.reports import IngestReport
from sluice import DEFAULT_RULES
from sluice.commands.shared.logs import explained
from sluice.commands.shared.options import (
    EXISTING_FILE,
    EXISTING_FOLDER,
    NEW_FILE,
    notify_option,
    read_rules,
    seed_option,
)
from sluice.commands.shared.output import output, plain
from sluice.commands.shared.times import DURATION
from sluice.demo.actors import ALLOWED
from sluice.demo.edge import TICK_S, EdgeTraffic
from sluice.demo.endless import endless_hits
from sluice.local.cloud import LocalCloud
from sluice.local.commanded import CommandedAnnouncements
from sluice.local.objects import DirectoryObjects
from sluice.local.served import ServedCloud
from sluice.local.sources import FollowedFile, PipedLines

SITE_RULES = Path(__file__).parent.parent / "demo" / "site.toml"
OBJECTS_TICK_S = 1.0
"""Seconds between two looks into the folder of objects."""

REPORT_S = 2.0
"""Seconds between two looks for lines that were not counted."""

EVENTS_S = 0.5
"""Seconds between two looks for events to print."""

FIRST_ATTACK_S = 20.0
"""Seconds from the start of the simulated traffic to its first attacker."""


@click.command()
@click.option("--traffic", type=click.Choice(("demo",)), help="Simulate visitors and attackers until interrupted.")
@click.option("--follow", type=NEW_FILE, metavar="FILE", help="Log file to follow; may be rotated.")
@click.option("--objects", type=EXISTING_FOLDER, metavar="DIR", help="Folder whose files count like objects in S3.")
@click.option("--rules", type=EXISTING_FILE, metavar="FILE", help="Initial rules.")
@click.option("--fields", metavar="NAMES", help="Fields of the CloudFront lines, separated by commas.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Port to listen on; 0 picks a free one.",
)
@click.option(
    "--past", type=DURATION, default="5m", show_default=True, help="Length of the simulated traffic before the start."
)
@notify_option
@seed_option
def dev(
    traffic: str | None,
    follow: Path | None,
    objects: Path | None,
    rules: Path | None,
    fields: str | None,
    port: int,
    past: str,
    notify: tuple[str, ...] | None,
    seed: int,
) -> None:
    """Run Sluice on this machine, with the admin API and the page, until interrupted.

    Log lines come from standard input, from a file that is followed, from the files of a folder, or from simulated
    traffic. A request counts at the time in its line: requests more than an hour old are late, so they are not counted
    and cause no block. With --objects, where logs come late, it is 26 hours. Each file in the folder, plain or gzip, is
    read once it has not changed for two seconds, and read again as a whole if it changes later. Lines that are not
    counted, because they are late or cannot be read, are explained, and blocks, their ends and other events are
    printed.

    \b
    sluice dev --traffic demo
    sluice dev --follow /var/log/cloudfront.log --rules rules.toml
    sluice dev --objects /var/log/archive
    ssh edge tail -F access.log | sluice dev
    """
    if sum(source is not None for source in (traffic, follow, objects)) > 1:
        raise click.UsageError("Give at most one of --traffic, --follow and --objects.")
    console = output()
    announcements = CommandedAnnouncements(notify, lambda text: console.print(plain(text))) if notify else None
    bucket = DirectoryObjects(objects) if objects else None
    settings = {"CLOUDFRONT_FIELDS": fields} if fields else {}
    if bucket is not None:
        settings["RETENTION_S"] = str(LONGEST_RETENTION_S)
    text, _ = read_rules(rules or (SITE_RULES if traffic else DEFAULT_RULES))
    try:
        served = ServedCloud(
            rules=text,
            port=port,
            start=time.time() - parse_duration(past) if traffic else None,
            seed=seed,
            settings=settings,
            allow=ALLOWED if traffic else (),
            objects=bucket,
            announcements=announcements,
            feeds=HttpsFeeds(),
        )
    except ConfigError as exc:
        raise click.ClickException(str(exc)) from exc
    except OSError as exc:
        raise click.ClickException(f"port {port}: {exc.strerror}; --port 0 picks a free one") from exc
    if bucket is not None:
        _run(served, console, partial(_notify, served.cloud, bucket), OBJECTS_TICK_S)
        return
    with _pump(served.cloud, simulated=traffic is not None, follow=follow, seed=seed) as pump:
        _run(served, console, pump)


def _notify(cloud: LocalCloud, bucket: DirectoryObjects) -> None:
    for object in bucket.new(cloud.now()):
        cloud.notify(object)


class UncountedLines:
    """A report of what is not counted: each reason when it first occurs, and whenever its number has grown tenfold."""

    def __init__(self, console: Console, retention_s: int) -> None:
        self._console = console
        self._retention = format_duration(retention_s)
        self._reported: dict[tuple[str | None, str], int] = {}

    def report(self, total: IngestReport) -> None:
        """Prints what is new in ``total``, the sum of all reports since the start."""
        for count in total.malformed_counts:
            self._report((count.source, count.reason), count.number, explained(count))
        if total.late:
            late = f"{plural(total.late, 'request')} made more than {self._retention} before being read"
            self._report((None, "late"), total.late, late)

    def _report(self, kind: tuple[str | None, str], number: int, text: str) -> None:
        if number >= 10 * self._reported.get(kind, 0):
            self._reported[kind] = number
            self._console.print(Text("Not counted: ", "yellow") + plain(text), soft_wrap=True)


class EventLines:
    """A report of events: a line for each announcement."""

    def __init__(self, console: Console, printed: int = 0) -> None:
        """``printed``: announcements that were made before, and are not printed."""
        self._console = console
        self._printed = printed

    def report(self, announcements: Sequence[Announcement]) -> None:
        """Prints the new ones among ``announcements``, which are all since the start."""
        for each in announcements[self._printed :]:
            time_of_day = datetime.fromisoformat(each.at).astimezone().strftime("%H:%M:%S")
            line = Text.assemble(f"{time_of_day}  ", plain(each.title.partition(": ")[2]), "  ", plain(each.text))
            self._console.print(line, soft_wrap=True)
        self._printed = len(announcements)


def _run(served: ServedCloud, console: Console, pump: Callable[[], None], tick_s: float = TICK_S) -> None:
    cloud = served.cloud
    cloud.loop.every(tick_s, pump, first=cloud.now())
    with console.status("Simulating past traffic ..."):
        served.run(time.time())
    with served.serving():
        _greet(console, served.url, {role: served.token(f"dev-{role}", role) for role in Role})
        uncounted = UncountedLines(console, cloud.config.retention_s)
        cloud.loop.every(REPORT_S, lambda: uncounted.report(cloud.telemetry.ingests), first=cloud.now())
        events = EventLines(console, len(cloud.telemetry.announcements))
        cloud.loop.every(EVENTS_S, lambda: events.report(cloud.telemetry.announcements), first=cloud.now())
        try:
            served.run(inf)
        except KeyboardInterrupt:
            console.print("Stopped. Nothing was saved.")


@contextmanager
def _pump(cloud: LocalCloud, *, simulated: bool, follow: Path | None, seed: int) -> Iterator[Callable[[], None]]:
    """Yields the function that puts the lines since its last call into the stream."""
    if simulated:
        yield EdgeTraffic(cloud, endless_hits(seed, start_in=FIRST_ATTACK_S), seed=seed).tick
        return
    source = closing(FollowedFile(follow)) if follow else nullcontext(PipedLines(sys.stdin.fileno()))
    with source as lines:

        def feed() -> None:
            for line in lines.lines():
                cloud.put(line)

        yield feed


def _greet(console: Console, url: str, tokens: dict[Role, str]) -> None:
    """Prints address and tokens, each on its own line, so that scripts can read them."""
    console.print(Text.assemble(("Page:", "bold"), f"           {url}"), soft_wrap=True)
    console.print(f"Signed in:      {url}#sign-in/{tokens[Role.OPERATOR]}", soft_wrap=True)
    for role, text in tokens.items():
        console.print(f"{role + ' token:':16}{text}", soft_wrap=True)
    console.print(f"In a shell:     export SLUICE_URL={url} SLUICE_TOKEN={tokens[Role.OPERATOR]}", soft_wrap=True)
    console.print("Stop with Ctrl-C. The tokens are valid until then, and nothing is saved.")
