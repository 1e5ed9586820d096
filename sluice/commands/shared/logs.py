"""What the commands over log files have in common: their options, the rules file, the progress bar, odd things said."""

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
from chalicelib.core.rules import RulesError, RuleSet, parse_rules
from sluice import DEFAULT_RULES
from sluice.logs import files as reading
from sluice.logs.file_decoder import Chunk
from sluice.replay.engine import Look, Options, Result, replay
from sluice.replay.strips import Seen


def _moment(text: str) -> int:
    """Milliseconds since the epoch."""
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
    """FILES and how to read them; the command takes them as ``files`` and ``options``."""

    @wraps(command)
    def gathered(
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

    wrapped: Callable[..., None] = gathered
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
        help="Fields of CloudFront real-time lines, as selected in the log's configuration.",
    ),
    click.option(
        "--trusted-proxy", multiple=True, metavar="NETWORK", help="Proxy whose X-Forwarded-For is believed; repeatable."
    ),
    click.option("--allowlist", type=_PATH, help="File with networks that are never blocked, one a line."),
    click.option(
        "--sample-rate", type=click.IntRange(1, 100), default=100, help="Percentage of requests that the logs hold."
    ),
    click.option("--from", "from_", type=_moment, metavar="TIME", help="Leave out requests before; UTC unless said."),
    click.option("--to", type=_moment, metavar="TIME", help="Leave out requests at this time and later."),
    click.option(
        "--delay",
        type=click.IntRange(0, 3600),
        default=0,
        metavar="SECONDS",
        help="From an offence until its block is in force.",
    ),
    click.option("--jobs", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes that decode."),
]

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
rules_option = click.option(
    "--rules", type=_PATH, default=DEFAULT_RULES, help="Rules to try.  [default: the rules that setup installs]"
)


def read_rules(path: Path) -> RuleSet:
    """Raises ClickException with everything that is wrong with the file."""
    try:
        rules = parse_rules(path.read_text("utf-8"))
    except RulesError as exc:
        raise click.ClickException("\n".join(f"{path}: {problem}" for problem in exc.problems)) from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise click.ClickException(f"{path}: {exc}") from exc
    if not rules.rules:
        raise click.ClickException(f"{path}: holds no rule; write [[rule]] with name, limit and window")
    return rules


@contextmanager
def opened(files: Sequence[str]) -> Iterator[tuple[Iterator[Chunk], reading.Progress]]:
    """The blocks of ``files``, with a progress bar on stderr while they are read.

    Raises ClickException for what cannot be read, also while it is.
    """
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    progress = reading.Progress()
    try:
        found = reading.find_files(files)
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("reading", total=reading.total_bytes(found))

            def told() -> Iterator[Chunk]:
                for block in reading.chunks(found, progress):
                    bar.update(task, completed=progress.bytes_read)
                    yield block
                bar.update(task, description="judging")

            yield told(), progress
    except (OSError, ValueError) as exc:
        raise click.ClickException(str(exc)) from exc


def run(
    files: Sequence[str],
    rule_sets: Sequence[RuleSet],
    options: Options,
    *,
    everyone: bool = False,
    look: Look = lambda number, ledger: None,  # noqa: ARG005
) -> list[Result]:
    """Replays ``files``, and says what was odd about them."""
    with opened(files) as (blocks, progress):
        results = replay(blocks, rule_sets, options, everyone=everyone, look=look)
    note_odd(results[0].seen, progress)
    return results


def note_odd(seen: Seen, progress: reading.Progress) -> None:
    for note in (*progress.notes, *_odd(seen)):
        click.echo(f"note: {note}", err=True)


def _odd(seen: Seen) -> list[str]:
    wrong = seen.malformed.total()
    if not wrong:
        return [] if seen.requests else ["there is no request in these files"]
    reasons = ", ".join(f"{number:,} {reason}" for reason, number in seen.malformed.most_common())
    notes = [f"{wrong:,} lines are no requests ({reasons}); for example {sample}" for sample in seen.samples[:1]]
    if not seen.requests:
        notes.append("nothing was recognised; for CloudFront real-time lines name their fields with --fields")
    elif seen.malformed[Reason.FIELDS] > seen.requests:
        notes.append("most lines have another number of fields than expected; is --fields right?")
    return notes


def plain_table(title: str = "") -> Table:
    """A table without lines, which leaves room for what it says on a narrow terminal."""
    return Table(title=title or None, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))


def print_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2)
    click.echo()


def utc(ms: float | None, *, day: bool = True) -> str:
    """A time for people.

    >>> utc(1760000000123), utc(1760000000123, day=False)
    ('2025-10-09 08:53:20', '08:53:20.123')
    """
    if ms is None:
        return "-"
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}" if day else f"{moment:%H:%M:%S}.{int(ms) % 1000:03d}"
