"""Shared by the commands that read log files: their options, the rules file, the progress bar, and notes on stderr."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from chalicelib.core.addresses import Network, parse_network
from chalicelib.core.logs.cloudfront import DEFAULT_FIELDS
from chalicelib.core.logs.requests import Reason
from chalicelib.core.rules import RuleSet
from chalicelib.core.rules_toml import RulesError, parse_rules
from sluice import DEFAULT_RULES
from sluice.logs.files import Chunk, ReadProgress, chunks, find_files, total_bytes
from sluice.replay.engine import Options, SpooledLog, spooled
from sluice.replay.strips import LogStats


def _moment_ms(text: str) -> int:
    """Parses a time, UTC unless it names a zone, into milliseconds since the epoch."""
    try:
        return int(float(text) * 1000)
    except (ValueError, OverflowError):
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not a time such as 2026-01-31T12:00, 2026-01-31T12:00:00+01:00 or epoch seconds"
        ) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _networks(texts: Sequence[str]) -> tuple[Network, ...]:
    try:
        return tuple(parse_network(text) for text in texts)
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from None


def _network_list(path: Path | None) -> tuple[Network, ...]:
    if path is None:
        return ()
    lines = (line.partition("#")[0].strip() for line in path.read_text("utf-8").splitlines())
    return _networks([line for line in lines if line])


def log_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the FILES argument and the options for reading them; the command receives ``files`` and ``options``."""

    @wraps(command)
    def with_options(
        *,
        fields: str,
        trusted_proxy: tuple[str, ...],
        allowlist: Path | None,
        sample_rate: int,
        from_: int | None,
        to: int | None,
        delay: int,
        jobs: int,
        **rest: Any,
    ) -> None:
        options = Options(
            fields=tuple(name.strip() for name in fields.split(",")),
            trusted=_networks(trusted_proxy),
            allowlist=_network_list(allowlist),
            sample_rate=sample_rate,
            from_ms=from_,
            to_ms=to,
            delay_s=delay,
            jobs=jobs,
        )
        command(options=options, **rest)

    wrapped: Callable[..., None] = with_options
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


_PATH = click.Path(exists=True, dir_okay=False, path_type=Path)
_OPTIONS: list[Callable[[Callable[..., None]], Callable[..., None]]] = [
    click.argument("files", nargs=-1, required=True, metavar="FILE|DIR|-..."),
    click.option(
        "--fields",
        default=",".join(DEFAULT_FIELDS),
        show_default=True,
        help="Fields of CloudFront real-time logs, in the order of the log's configuration.",
    ),
    click.option(
        "--trusted-proxy", multiple=True, metavar="NETWORK", help="Proxy whose X-Forwarded-For to trust; repeatable."
    ),
    click.option("--allowlist", type=_PATH, help="File of networks that are never blocked, one per line."),
    click.option(
        "--sample-rate", type=click.IntRange(1, 100), default=100, help="Percentage of requests that the logs hold."
    ),
    click.option(
        "--from", "from_", type=_moment_ms, metavar="TIME", help="Skip requests before TIME; UTC unless it has a zone."
    ),
    click.option("--to", type=_moment_ms, metavar="TIME", help="Skip requests at TIME and later."),
    click.option(
        "--delay",
        type=click.IntRange(0, 3600),
        default=0,
        metavar="SECONDS",
        help="Time from an offence until its block takes effect.",
    ),
    click.option(
        "--jobs", type=click.IntRange(1, 64), default=1, show_default=True, help="Number of decoding processes."
    ),
]

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
rules_option = click.option(
    "--rules", type=_PATH, default=DEFAULT_RULES, help="Rules to try.  [default: the rules that setup installs]"
)


def read_rules(path: Path) -> RuleSet:
    """Reads a rule set. Raises ClickException with every problem in the file."""
    try:
        rules = parse_rules(path.read_text("utf-8"))
    except RulesError as exc:
        raise click.ClickException("\n".join(f"{path}: {problem}" for problem in exc.problems)) from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise click.ClickException(f"{path}: {exc}") from exc
    if not rules.rules:
        raise click.ClickException(f"{path}: contains no rules; add [[rule]] with name, limit and window")
    return rules


@contextmanager
def opened(files: Sequence[str]) -> Iterator[tuple[Iterator[Chunk], ReadProgress]]:
    """Yields the chunks of ``files`` and their progress, and shows a progress bar on stderr meanwhile.

    Raises ClickException for files that cannot be read, also while their chunks are being used.
    """
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    progress = ReadProgress()
    try:
        paths = find_files(files)
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("reading", total=total_bytes(paths))

            def shown() -> Iterator[Chunk]:
                for chunk in chunks(paths, progress):
                    bar.update(task, completed=progress.bytes_read)
                    yield chunk
                bar.update(task, description="evaluating")

            yield shown(), progress
    except (OSError, ValueError) as exc:
        raise click.ClickException(str(exc)) from exc


@contextmanager
def opened_log(
    files: Sequence[str], rule_sets: Sequence[RuleSet], options: Options, *, everyone: bool = False
) -> Iterator[SpooledLog]:
    """Reads ``files`` for ``rule_sets`` and yields the log; prints notes about the files at the end."""
    with opened(files) as (chunks, progress), spooled(chunks, rule_sets, options, everyone=everyone) as log:
        yield log
    print_notes(log.stats, progress)


def print_notes(stats: LogStats, progress: ReadProgress) -> None:
    """Prints on stderr what is unusual about the files."""
    for note in (*progress.notes, *_notes(stats)):
        click.echo(f"note: {note}", err=True)


def _notes(stats: LogStats) -> list[str]:
    malformed = stats.malformed.total()
    if not malformed:
        return [] if stats.requests else ["there are no requests in these files"]
    reasons = ", ".join(f"{number:,} {reason}" for reason, number in stats.malformed.most_common())
    notes = [f"{malformed:,} lines are malformed ({reasons}); for example {sample}" for sample in stats.samples[:1]]
    if not stats.requests:
        notes.append("no line was recognised; for CloudFront real-time logs, name their fields with --fields")
    elif stats.malformed[Reason.FIELDS] > stats.requests:
        notes.append("most lines have an unexpected number of fields; is --fields correct?")
    return notes


def plain_table(title: str = "") -> Table:
    """Returns a table without borders, which fits more text on a narrow terminal."""
    return Table(title=title or None, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))


def print_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2)
    click.echo()
