"""Shared by the commands that read log files: their options, the rules file, the progress bar, and notes on stderr."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import Any

import click
from rich.progress import Progress, TransferSpeedColumn

from chalicelib.admin.wording import plural
from chalicelib.core.addresses import Network
from chalicelib.core.logs.cloudfront import DEFAULT_FIELDS
from chalicelib.core.logs.requests import Reason, Source
from chalicelib.core.rules import RuleSet
from chalicelib.core.sampling import sampling_notes
from sluice import DEFAULT_RULES
from sluice.commands.shared.options import (
    EXISTING_FILE,
    NETWORK,
    Parsed,
    json_output,
    together,
    without_comments,
)
from sluice.commands.shared.output import output
from sluice.commands.shared.times import UTC_MOMENT_MS
from sluice.logs.files import Chunk, ReadProgress, chunks, find_files, total_bytes
from sluice.replay.engine import Options, SpooledLog, spooled
from sluice.replay.strips import LogStats


def _network_list(ctx: click.Context, param: click.Parameter, path: Path | None) -> tuple[Network, ...]:
    lines = without_comments(path.read_text("utf-8").splitlines()) if path else ()
    return tuple(NETWORK.convert(line, param, ctx) for line in lines)


def log_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the FILES argument and the options for reading them; the command receives ``files`` and ``options``."""

    @wraps(command)
    def with_options(**arguments: Any) -> None:
        settings = {field.name: arguments.pop(field.name) for field in fields(Options)}
        command(options=Options(**settings), **arguments)

    return _options(with_options)


_options = together(
    click.argument("files", nargs=-1, required=True, metavar="FILE|DIR|-..."),
    click.option(
        "--fields",
        default=",".join(DEFAULT_FIELDS),
        show_default=True,
        type=Parsed("TEXT", lambda names: tuple(name.strip() for name in names.split(","))),
        help="Fields of CloudFront real-time logs, in the order of the log's configuration.",
    ),
    click.option(
        "--trusted-proxy",
        "trusted",
        multiple=True,
        type=NETWORK,
        help="Proxy whose X-Forwarded-For to trust; repeatable.",
    ),
    click.option(
        "--allowlist",
        type=EXISTING_FILE,
        callback=_network_list,
        help="File of networks that are never blocked, one per line.",
    ),
    click.option(
        "--sample-rate",
        type=click.IntRange(1, 100),
        default=100,
        help="Percentage of requests that CloudFront real-time logs hold; all other logs are complete.",
    ),
    click.option("--from", "from_ms", type=UTC_MOMENT_MS, help="Skip requests before TIME; UTC unless it has a zone."),
    click.option("--to", "to_ms", type=UTC_MOMENT_MS, help="Skip requests at TIME and later."),
    click.option(
        "--delay",
        "delay_s",
        type=click.IntRange(0, 3600),
        default=0,
        metavar="SECONDS",
        help="Time from an offence until its block takes effect.",
    ),
)
"""Each option is named after the field of ``Options`` that it sets."""

json_option = json_output("Print one JSON object.")


rules_option = click.option(
    "--rules", type=EXISTING_FILE, default=DEFAULT_RULES, help="Rules to try.  [default: the rules that setup installs]"
)


@contextmanager
def opened(files: Sequence[str]) -> Iterator[tuple[Iterator[Chunk], ReadProgress]]:
    """Yields the chunks of ``files`` and their progress, and shows a progress bar on stderr meanwhile.

    Raises ClickException for files that cannot be read, also while their chunks are being used.
    """
    console = output(sys.stderr)
    columns = (*Progress.get_default_columns(), TransferSpeedColumn())
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
    if Source.CLOUDFRONT in log.stats.sources:
        for note in (note for rules in rule_sets for note in sampling_notes(rules.rules, options.sampling)):
            click.echo(f"note: {note}", err=True)


def print_notes(stats: LogStats, progress: ReadProgress) -> None:
    """Prints on stderr what is unusual about the files."""
    for note in (*progress.notes, *_notes(stats)):
        click.echo(f"note: {note}", err=True)


def _notes(stats: LogStats) -> list[str]:
    malformed = stats.malformed.total()
    if not malformed:
        return [] if stats.requests else ["there are no requests in these files"]
    reasons = ", ".join(f"{number:,} {reason}" for reason, number in stats.malformed.most_common())
    notes = [
        f"{plural(malformed, 'malformed line')} ({reasons}), for example: {sample}" for sample in stats.samples[:1]
    ]
    if not stats.requests:
        notes.append("no line was recognised; for CloudFront real-time logs, name their fields with --fields")
    elif stats.malformed[Reason.FIELDS] > stats.requests:
        notes.append("most lines have an unexpected number of fields; is --fields correct?")
    return notes
