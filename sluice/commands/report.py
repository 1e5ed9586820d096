"""``sluice report``: a replay as one page with plots."""

from pathlib import Path

import click

from sluice.commands.shared.logs import log_options, read_rules, rules_option, run, utc
from sluice.replay.engine import Options


@click.command()
@log_options
@rules_option
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default="report.html", show_default=True
)
@click.option("--png", type=click.Path(file_okay=False, path_type=Path), help="Folder for the plots as PNG files.")
def report(files: tuple[str, ...], options: Options, rules: Path, output: Path, png: Path | None) -> None:
    """Write a page that shows what a rule set would have done.

    One file without anything outside it: requests over time and what would have been refused, every client's busiest
    window against the limits, blocks on a time line, the evidence against each offender.

    \b
    sluice report logs/ --rules rules.toml -o report.html
    """
    try:
        from sluice.analysis import report as pages  # noqa: PLC0415  # only this command needs plots
    except ImportError as exc:
        raise click.ClickException("plots need matplotlib: pip install matplotlib") from exc
    from sluice.analysis.traffic import Traffic  # noqa: PLC0415

    rule_set = read_rules(rules)
    traffic = Traffic(rule_set, options.sample_rate)
    (result,) = run(files, [rule_set], options, everyone=True, look=traffic.look)
    seen = result.seen
    if not seen.requests:
        raise click.ClickException("there is no request in these files, so there is nothing to show")
    figures = pages.figures_of(result, traffic)
    span = f"{seen.requests:,} requests from {utc(seen.first_ms)} to {utc(seen.last_ms)} UTC, rules of {rules.name}."
    try:
        output.write_text(pages.page(result, figures, span, utc), "utf-8")
        click.echo(f"{output} written")
        if png:
            png.mkdir(parents=True, exist_ok=True)
            for name, figure in figures.items():
                figure.savefig(png / f"{name}.png", dpi=150)
                click.echo(f"{png / name}.png written")
    except OSError as exc:
        raise click.ClickException(str(exc)) from exc
