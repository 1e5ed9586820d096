"""``python -m bench.rivals``: the table of README, from one run on one machine; ``make rivals`` installs the rivals."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import NamedTuple, TypeVar

import click

from bench.rivals import models, programs
from bench.rivals.programs import Run, Verdicts
from bench.rivals.score import score, truth
from bench.rivals.traffic import FLOOD, LIMIT, Limit, Times, clients, lines, read, unpacked
from tests.support.edge_stories import played, steady

ROUNDS, QUICK_S = 3, 10
"""Rounds of a program that takes less CPU time; a slower one runs once."""
LEAST_LINES = 5000
"""Shorter logs show no CPU time of a line, because the noise of a program's start is larger."""


Measured = TypeVar("Measured", Run, Verdicts)


class Program(NamedTuple):
    """A program that runs here."""

    name: str
    how: str
    run: Callable[[Path, int, int, Path], Verdicts]
    path_s: float | None
    """Seconds from its finding to the block, on average; None if it blocks nothing."""


class Model(NamedTuple):
    """A service, modelled; its moments are those of the block."""

    name: str
    how: str
    first: Callable[[Times, Limit], dict[str, int]]


PROGRAMS = (
    Program("fail2ban", "its filter and count, run", programs.fail2ban, 0.5),
    Program("CrowdSec", "its replay mode, run", programs.crowdsec, 5),
    Program("DuckDB", "a query, run", programs.duckdb, None),
    Program("Polars", "a query, run", programs.polars, None),
)
"""fail2ban looks at a file every second, and CrowdSec's bouncer for AWS WAF at decisions every ten."""
MODELS = (
    Model("AWS WAF's rate-based rule", "a model of its documentation", models.aws_waf),
    Model("Security Automations for AWS WAF", "a model of its log parser", models.security_automations),
)
NAMES = ("Sluice", *(rival.name for rival in (*PROGRAMS, *MODELS)))
HEADINGS = ("", "what ran", "missed", "false", "time to block", "CPU per line", "memory")


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    how: str
    missed: Mapping[str, int] | None = None
    """Clients over the limit that it does not find, by kind; None if it is not installed."""
    false: Mapping[str, int] | None = None
    """Clients that it finds and that are never over the limit, by kind."""
    time_to_block_s: float | None = None
    """Median, from the request that exceeds the limit; None if it blocks nothing."""
    cpu_per_line: float | None = None
    """CPU time of a line over that of reading and splitting it in Python; None if AWS spends it, or of a short log."""
    memory_mb: float | None = None
    """Peak."""

    def cells(self) -> tuple[str, ...]:
        if self.missed is None or self.false is None:
            return self.name, "not installed", *"-----"
        return (
            self.name,
            self.how,
            f"{sum(self.missed.values()):,}",
            f"{sum(self.false.values()):,}",
            _shown(self.time_to_block_s, "s"),
            _shown(self.cpu_per_line, "x"),
            _shown(self.memory_mb, "MB"),
        )


def _shown(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return f"{value:,.1f} {unit}" if value < 10 else f"{value:,.0f} {unit}"


def time_to_block_s() -> float:
    """Returns the median time from the record in Kinesis to the IP set, of floods in the local cloud."""
    requests = [hit for n in range(20) for hit in steady(f"198.18.0.{n + 1}", 10, 5 + n * 1.3, 35 + n * 1.3)]
    rules = '[[rule]]\nname = "rate"\nlimit = 100\nwindow = "60s"\nblock_for = "1h"\n'
    with TemporaryDirectory() as folder:
        return float(played(Path(folder), requests, rules, edge_s=1)["time_to_block_s"]["p50"])


class Comparison:
    """One log, on which everything is run and scored."""

    def __init__(self, log: Path, times: Times, limit: Limit, kinds: Mapping[str, str], folder: Path) -> None:
        """``kinds`` are those of the clients. If some are floods, their delays count, otherwise those of all."""
        self._log, self._times, self._limit, self._kinds, self._folder = log, times, limit, kinds, folder
        self._timed = {client for client, kind in kinds.items() if kind == FLOOD} or kinds.keys()
        self._over = truth(times, limit)
        everything = log.read_text().splitlines(keepends=True)
        self._measurable = len(everything) >= LEAST_LINES
        self._tenth = folder / "tenth"
        self._tenth.write_text("".join(everything[: len(everything) // 10]))
        _, self._floor_s = self._measured(lambda log: programs.split_lines(log, folder))
        self.title = (
            f"{len(everything):,} lines of {len(times):,} clients, {len(self._over):,} of which exceed "
            f"{limit.requests:,} requests within {limit.window_s} s"
        )

    def rows(self) -> Iterator[Row]:
        yield self._run(Program("Sluice", "`sluice replay`, run", programs.sluice, time_to_block_s()))
        for program in PROGRAMS:
            yield self._run(program)
        for name, how, first in MODELS:
            missed, false, delay_s = score(first(self._times, self._limit), self._over, self._timed)
            yield Row(name, how, self._by_kind(missed), self._by_kind(false), delay_s)

    def _run(self, program: Program) -> Row:
        def run(log: Path) -> Verdicts:
            return program.run(log, self._limit.requests, self._limit.window_s, self._folder)

        try:
            verdicts, cpu_s = self._measured(run)
        except programs.NotInstalled:
            return Row(program.name, program.how)
        missed, false, delay_s = score(verdicts.first, self._over, self._timed)
        blocked_s = None if program.path_s is None or delay_s is None else delay_s + program.path_s
        return Row(
            program.name,
            program.how,
            self._by_kind(missed),
            self._by_kind(false),
            blocked_s,
            cpu_s / self._floor_s if self._measurable else None,
            verdicts.memory_mb,
        )

    def _by_kind(self, of: Collection[str]) -> dict[str, int]:
        return dict(sorted(Counter(self._kinds[client] for client in of).items()))

    def _measured(self, run: Callable[[Path], Measured]) -> tuple[Measured, float]:
        """Returns the result for the log, and the CPU time of its last nine tenths: a program's start is left out."""
        first = run(self._log)
        rounds: int = 1 if first.cpu_s > QUICK_S else ROUNDS
        whole_s = min([first.cpu_s, *(run(self._log).cpu_s for _ in range(rounds - 1))])
        tenth_s = min(run(self._tenth).cpu_s for _ in range(rounds))
        return first, whole_s - tenth_s


def generated(folder: Path) -> Comparison:
    """Returns the comparison on a log of clients at the edge of ``LIMIT``."""
    made = clients(Random(1))
    times = {client: moments for client, (_, moments) in made.items()}
    log = folder / "log"
    log.write_text("".join(lines(times)))
    return Comparison(log, times, LIMIT, {client: kind for client, (kind, _) in made.items()}, folder)


def of_log(log: Path, limit: Limit, folder: Path) -> Comparison:
    """Returns the comparison on ``log``. Raises BadParameter if it has no line in combined format."""
    plain = unpacked(log, folder)
    with plain.open(errors="replace") as text:
        times = read(text)
    if not times:
        raise click.BadParameter(f"{log} has no line in combined format", param_hint="--log")
    return Comparison(plain, times, limit, dict.fromkeys(times, "client of the log"), folder)


def markdown(rows: Collection[Row]) -> str:
    """Returns the table as Markdown."""
    cells = [HEADINGS, ("---",) * len(HEADINGS), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def errors(rows: Collection[Row]) -> Iterator[str]:
    """Yields a line for each kind of clients that a rival misses or finds without reason."""
    for row in rows:
        for what, kinds in (("misses", row.missed), ("finds without reason", row.false)):
            for kind, number in (kinds or {}).items():
                yield f"{row.name} {what}: {number:,} x {kind}"


@click.command()
@click.option("--log", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="A log in combined format.")
@click.option("--limit", type=click.IntRange(10), default=LIMIT.requests, help="Requests per minute, for --log.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(log: Path | None, limit: int, as_json: bool) -> None:
    """Compare Sluice with its rivals, on generated traffic at the edge of a limit or on a log of your own."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        comparison = generated(folder) if log is None else of_log(log, Limit(limit, LIMIT.window_s), folder)
        rows: list[Row] = []
        for row in comparison.rows():
            click.echo(f"{row.name}: done", err=True)
            rows.append(row)
    if as_json:
        click.echo(json.dumps({"log": comparison.title, "rows": [asdict(row) for row in rows]}, indent=1))
    else:
        click.echo("\n".join([f"{comparison.title}:", "", markdown(rows), "", *errors(rows)]))


if __name__ == "__main__":
    main()
