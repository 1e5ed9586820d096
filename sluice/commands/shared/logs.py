"""Shared by the commands that read log files: their options, the rules file, the progress bar, and notes on stderr."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Any

import click
from rich.progress import Progress, TransferSpeedColumn

from chalicelib.admin.malformed import fault, remedy
from chalicelib.core.logs.cloudfront import DEFAULT_FIELDS
from chalicelib.core.logs.json_fields import parse_json_fields
from chalicelib.core.logs.malformed_counts import MalformedCount
from chalicelib.core.logs.requests import Source
from chalicelib.core.printable import printable
from chalicelib.core.refusals import REFUSAL_STATUS, STATUSES
from chalicelib.core.rules import RuleSet
from chalicelib.core.rules_toml import RULE_NAME
from chalicelib.core.sampling import sampling_notes
from chalicelib.core.state.allowlist import Allow
from sluice import DEFAULT_RULES
from sluice.commands.shared.options import (
    EXISTING_FILE,
    NETWORK,
    Parsed,
    json_output,
    number_option,
    read_text,
    together,
    without_comments,
)
from sluice.commands.shared.output import output
from sluice.commands.shared.times import UTC_MOMENT_MS, utc
from sluice.logs.files import Chunk, ReadProgress, chunks, find_files, total_bytes
from sluice.logs.s3 import MOST_BYTES, MOST_OBJECTS, S3Listing
from sluice.replay.engine import Options, SpooledLog, spooled
from sluice.replay.strips import LogStats


def _allowlist(ctx: click.Context, param: click.Parameter, path: Path | None) -> tuple[Allow, ...]:
    lines = without_comments(read_text(path).splitlines()) if path else ()
    entries = [line.split() for line in lines]
    for name in (name for _, *rules in entries for name in rules):
        if not RULE_NAME.accepts(name):
            raise click.BadParameter(f"{name!r} is not the name of a rule: {RULE_NAME.accepted}", ctx, param)
    return tuple(
        Allow(network=str(NETWORK.convert(network, param, ctx)), rules=tuple(rules)) for network, *rules in entries
    )


def log_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the FILES argument and the options for reading them; the command receives ``files`` and ``options``."""

    @files_argument
    @wraps(command)
    def with_options(**arguments: Any) -> None:
        options = Options(**{field.name: arguments.pop(field.name) for field in fields(Options)})
        if options.from_ms is not None and options.to_ms is not None and options.from_ms >= options.to_ms:
            raise click.UsageError("--from is not before --to")
        command(options=options, **arguments)

    return _options(with_options)


def field_names(text: str) -> tuple[str, ...]:
    """Returns the names of CloudFront's fields in ``text``, which commas separate."""
    return tuple(name.strip() for name in text.split(","))


@dataclass(frozen=True, slots=True)
class LogNames:
    """The logs to read, as the operator named them, and bounds on what S3 may deliver."""

    names: tuple[str, ...]
    most_objects: int = MOST_OBJECTS
    most_bytes: int = MOST_BYTES

    def __str__(self) -> str:
        return ", ".join(self.names)


def files_argument(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the FILES argument and the bounds on S3; the command receives them as ``files``, a LogNames."""

    @wraps(command)
    def with_files(files: tuple[str, ...], most_objects: int, most_bytes: int, **arguments: Any) -> None:
        command(files=LogNames(files, most_objects, most_bytes), **arguments)

    return _files_options(with_files)


_files_options = together(
    click.argument("files", nargs=-1, required=True, metavar="FILE|DIR|s3://BUCKET/PREFIX|-..."),
    number_option(
        "--max-objects",
        "most_objects",
        default=MOST_OBJECTS,
        help="Read nothing if an s3:// name stands for more objects.",
    ),
    number_option(
        "--max-bytes", "most_bytes", default=MOST_BYTES, help="Read nothing if its objects hold more bytes, as stored."
    ),
)

fields_option = click.option(
    "--fields",
    default=",".join(DEFAULT_FIELDS),
    show_default=True,
    type=Parsed("NAMES", field_names),
    help="Fields selected in the CloudFront real-time log configuration, in any order.",
)
json_fields_option = click.option(
    "--json-fields",
    default="",
    type=Parsed("PAIRS", parse_json_fields),
    help="Keys of other programs' JSON access logs, such as time=ts,client=request.remote_ip,status=status.",
)
trusted_option = click.option(
    "--trusted-proxy",
    "trusted",
    multiple=True,
    type=NETWORK,
    help="Proxy whose X-Forwarded-For to trust; repeatable.",
)
decoder_options = together(fields_option, trusted_option, json_fields_option)
"""The options that decide how log lines are read."""

sample_rate_option = click.option(
    "--sample-rate",
    type=click.IntRange(1, 100),
    default=100,
    help="Percentage of requests that CloudFront real-time logs hold; all other logs are complete.",
)

block_status_option = click.option(
    "--block-status",
    "block_status",
    type=click.Choice(STATUSES),
    default=str(REFUSAL_STATUS),
    show_default=True,
    callback=lambda ctx, param, status: int(status),  # noqa: ARG005
    help="Status with which Sluice's rule group refuses requests, as 'sluice setup --block-status' chose it.",
)

_options = together(
    decoder_options,
    block_status_option,
    click.option(
        "--allowlist",
        type=EXISTING_FILE,
        callback=_allowlist,
        help="File of networks that are never blocked, one per line; a network followed by names of rules is exempt "
        "from these alone.",
    ),
    sample_rate_option,
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

MOST_EXPLAINED = 5
"""Most counts of malformed lines that are explained, the largest of them."""

json_option = json_output("Print one JSON object.")


rules_option = click.option(
    "--rules", type=EXISTING_FILE, default=DEFAULT_RULES, help="Rules to try.  [default: the rules that setup installs]"
)


@contextmanager
def opened(files: LogNames, from_ms: int | None = None) -> Iterator[tuple[Iterator[Chunk], ReadProgress]]:
    """Yields the chunks of ``files`` and their progress, and shows a progress bar on stderr meanwhile.

    Objects in S3 are listed first, without those that only hold requests before ``from_ms``. Raises ClickException for
    files that cannot be read, also while their chunks are being used.
    """
    console = output(sys.stderr)
    columns = (*Progress.get_default_columns(), TransferSpeedColumn())
    progress = ReadProgress()
    listing = S3Listing(files.most_objects, files.most_bytes, from_ms, _note)
    try:
        log_files = find_files(files.names, listing)
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("reading", total=total_bytes(log_files))

            def shown() -> Iterator[Chunk]:
                for chunk in chunks(log_files, progress):
                    bar.update(task, completed=progress.bytes_read)
                    yield chunk
                bar.update(task, description="evaluating")

            yield shown(), progress
    except (OSError, ValueError) as exc:
        raise click.ClickException(str(exc)) from exc


@contextmanager
def opened_log(
    files: LogNames, rule_sets: Sequence[RuleSet], options: Options, *, everyone: bool = False
) -> Iterator[SpooledLog]:
    """Reads ``files`` for ``rule_sets`` and yields the log; prints notes about the files at the end."""
    with (
        opened(files, options.from_ms) as (chunks, progress),
        spooled(chunks, rule_sets, options, everyone=everyone) as log,
    ):
        yield log
    print_notes(log.stats, progress, files)
    if Source.CLOUDFRONT in log.stats.sources:
        for note in (note for rules in rule_sets for note in sampling_notes(rules.rules, options.sampling)):
            _note(note)


def print_notes(stats: LogStats, progress: ReadProgress, files: LogNames) -> None:
    """Prints on stderr what is unusual about the files. Raises ClickException if there is no request to work on."""
    for note in progress.notes:
        _note(note)
    explanations = list(map(explained, stats.malformed_counts[:MOST_EXPLAINED]))
    if not stats.requests:
        raise click.ClickException("\n".join((_why_none(stats, files), *explanations)))
    for explanation in explanations:
        click.echo(f"note: {explanation}", err=True)


def _note(text: str) -> None:
    click.echo(f"note: {printable(text)}", err=True)


def _why_none(stats: LogStats, files: LogNames) -> str:
    reason = "none of their lines can be read" if stats.malformed_counts else f"no line is in {files}"
    if stats.skipped_ms:
        first, last = map(utc, stats.skipped_ms)
        reason = f"--from and --to leave out all {stats.skipped:,}, which are from {first} to {last} UTC"
    return f"there are no requests in these files: {printable(reason)}"


def explained(count: MalformedCount) -> str:
    """Returns malformed lines in words: the fault, the place and content of the first one, and the remedy."""
    return f"{fault(count, '--fields')}, such as {count.where or 'a record'}: {count.sample}\n  {remedy(count)}."
