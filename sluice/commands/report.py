"""``sluice report``: a replay as one page with plots."""

from pathlib import Path

import click

from sluice.commands.shared.logs import LogNames, log_options, opened_log, rules_option
from sluice.commands.shared.options import NEW_FILE, nonempty_rules
from sluice.commands.shared.times import utc
from sluice.replay.engine import Options


@click.command()
@log_options
@rules_option
@click.option("-o", "--output", type=NEW_FILE, default="report.html", show_default=True)
@click.option(
    "--png", type=click.Path(file_okay=False, path_type=Path), help="Also write the plots as PNG files to this folder."
)
def report(files: LogNames, options: Options, rules: Path, output: Path, png: Path | None) -> None:
    """Write a page that shows what a rule set would have done.

    The page is one self-contained file. It plots the requests over time and those that would have been refused, the
    peaks of all clients against the limits, and the blocks of the first 25 offenders on a timeline, and
    lists the evidence against the 100 busiest.

    \b
    sluice report logs/ --rules rules.toml -o report.html
    """
    try:
        from sluice.analysis.report import figures_of, page  # noqa: PLC0415  # only this command needs matplotlib
    except ImportError as exc:
        raise click.ClickException("plots need matplotlib: pip install matplotlib") from exc
    from sluice.analysis.traffic import profiled  # noqa: PLC0415

    rule_set = nonempty_rules(rules)
    with opened_log(files, [rule_set], options, everyone=True) as log:
        result, profile = profiled(log, rule_set)
    stats = result.stats
    figures = figures_of(result, profile)
    span = f"from {utc(stats.first_ms)} to {utc(stats.last_ms)} UTC"
    description = f"{stats.requests:,} requests {span}, rules of {rules.name}."
    try:
        output.write_text(page(result, figures, description, utc), "utf-8")
        click.echo(f"{output} written")
        if png:
            png.mkdir(parents=True, exist_ok=True)
            for name, figure in figures.items():
                figure.savefig(png / f"{name}.png", dpi=150)
                click.echo(f"{png / name}.png written")
    except OSError as exc:
        raise click.ClickException(str(exc)) from exc
