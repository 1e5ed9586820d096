"""``sluice rules``: show, check, plan, apply, change and roll back rules."""

import json
import time
from collections.abc import Iterator, Sequence
from typing import TextIO, get_args

import click
from rich.text import Text

from chalicelib.admin.rule_sets import RuleSetView, RulesPlan, VersionPage
from chalicelib.config import SETTINGS
from chalicelib.core.durations import format_duration, parse_duration
from chalicelib.core.logs.formats import columns_of_logs
from chalicelib.core.logs.json_fields import JsonFields
from chalicelib.core.logs.log_format import DecodeOptions
from chalicelib.core.logs.requests import LiveSource, Source
from chalicelib.core.response_notes import response_notes
from chalicelib.core.rule_notes import objections, rule_notes
from chalicelib.core.rules import NETWORKS, Action
from chalicelib.core.rules_diff import feed_sentence, terms_sentence
from chalicelib.core.rules_edit import EditError, Value, edited, end_of_pause
from chalicelib.core.rules_toml import RulesError, parse_rules
from chalicelib.core.sampling import Sampling, sampling_notes
from chalicelib.core.wording import plural
from sluice.api_client import Answer
from sluice.commands.shared.api import Printable, Session, api_command, as_sentence, ask, yes_option
from sluice.commands.shared.completing import complete_rule
from sluice.commands.shared.logs import fields_option, json_fields_option, sample_rate_option
from sluice.commands.shared.options import json_output
from sluice.commands.shared.output import output, plain, table
from sluice.commands.shared.times import DURATION, MOMENT, local

FILE = click.File("r", encoding="utf-8")
WIDEST = {version: int(SETTINGS[f"widest_ipv{version}"].default) for version in (4, 6)}
"""Widest networks that a stage accepts without force, unless its settings say otherwise."""
MARKS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}

version_option = click.option(
    "--if-version", type=click.IntRange(0), metavar="N", help="Only if version N is in force."
)
force_option = click.option(
    "--force",
    is_flag=True,
    help="Accept rules that block every client or wide networks, and a set without rules.",
)
comment_option = click.option("--comment", default="", metavar="TEXT", help="Reason, stored with the version.")


@click.group()
def rules() -> None:
    """Show, check, plan, apply, change and roll back rules."""


@rules.command()
@click.option("--version", type=click.IntRange(1), metavar="N", help="Show an earlier version.")
@api_command
def show(session: Session, version: int | None) -> None:
    """Print the rule set in force, as TOML.

    \b
    sluice rules show > rules.toml
    """
    answer = session.client.get("/v1/rules", RuleSetView, version=version)
    session.show(answer, lambda _: ())
    if not session.as_json:
        rule_set = answer.value
        if rule_set.problem:
            click.secho(f"version {rule_set.version}: {rule_set.problem}", fg="red", err=True)
        click.echo(rule_set.text, nl=not rule_set.text.endswith("\n"))


@rules.command()
@click.argument("file", type=FILE)
@fields_option
@json_fields_option
@click.option(
    "--source",
    "sources",
    type=click.Choice(get_args(LiveSource)),
    multiple=True,
    help="A log that the stage counts; repeatable. By default, any of those that Sluice reads.",
)
@sample_rate_option
@click.option("--strict", is_flag=True, help="Fail if there are notes.")
@json_output("Print one JSON object.")
def check(
    file: TextIO,
    fields: tuple[str, ...],
    json_fields: JsonFields,
    sources: Sequence[str],
    sample_rate: int,
    strict: bool,
    as_json: bool,
) -> None:
    """Check a file without a stage, as a CI job does.

    Prints every error with its rule, key, value and accepted form, and fails. Notes point out rules that name every
    visitor or none; they are errors only with --strict. - reads standard input.

    \b
    sluice rules check rules.toml
    sluice rules check rules.toml --source waf --strict
    """
    problems: list[str] = []
    notes: list[str] = []
    number = 0
    sentences: list[str] = []
    try:
        rule_set = parse_rules(file.read())
    except RulesError as exc:
        problems = exc.problems
    else:
        rules = rule_set.rules
        sentences += [f"{NETWORKS} blocks {terms_sentence(rule_set.networks)}."] if rule_set.networks else []
        sentences += [f"{feed.title}: {feed_sentence(feed)}." for feed in rule_set.feeds]
        number = len(rules)
        columns = columns_of_logs(DecodeOptions(fields, json_fields=json_fields))
        notes = [
            *(
                f"{reason[0].upper()}{reason[1:]}: a stage accepts it only with force."
                for reason in objections(rules, WIDEST)
            ),
            *rule_notes(rules, columns, map(Source, sources)),
            *sampling_notes(rules, Sampling(sample_rate)),
            *response_notes(rules),
        ]
    if as_json:
        click.echo(json.dumps({"valid": not problems, "rules": number, "problems": problems, "notes": notes}))
    else:
        console = output()
        for text, mark in [*((p, "Error: ") for p in problems), *((n, "! ") for n in notes)]:
            console.print(Text(mark, "red" if problems else "yellow") + plain(text))
        if not problems:
            console.print(f"{plural(number, 'rule')}, {plural(len(notes), 'note')}")
        for sentence in sentences:
            console.print(plain(sentence))
    if problems or (strict and notes):
        raise SystemExit(1)


@rules.command()
@click.argument("file", type=FILE)
@api_command
def plan(session: Session, file: TextIO) -> None:
    """Check a file and show what it would change.

    Changes nothing; - reads standard input.

    \b
    sluice rules plan rules.toml
    """
    session.show(_plan(session, file.read()), _plan_view)


@rules.command()
@click.argument("file", type=FILE)
@comment_option
@version_option
@force_option
@yes_option
@api_command
def apply(session: Session, file: TextIO, comment: str, if_version: int | None, force: bool, yes: bool) -> None:
    """Show what a file would change, ask, and put it in force.

    Fails if the rules were changed in the meantime.

    \b
    sluice rules apply rules.toml --comment "sale starts"
    sluice rules apply rules.toml --if-version 7 --yes
    """
    text = file.read()
    version = _confirm(session, text, "Put these rules in force?", if_version, yes)
    body = {"text": text, "comment": comment, **({"force": True} if force else {})}
    session.change("PUT", "/v1/rules", body=body, headers=_if_match(version))


@rules.command("set")
@click.argument("name", shell_complete=complete_rule)
@click.option(
    "--action", type=click.Choice([str(action) for action in Action]), help="Whether the rule blocks, or only counts."
)
@click.option("--limit", type=click.IntRange(0), metavar="N", help="Requests allowed within one window.")
@click.option("--pause-for", type=DURATION, help="Let the rule only count for this time, from now.")
@click.option("--pause-until", type=MOMENT, help="Let the rule only count until this time.")
@click.option("--resume", is_flag=True, help="End the rule's pause.")
@comment_option
@version_option
@force_option
@yes_option
@api_command
def set_(
    session: Session,
    name: str,
    action: str | None,
    limit: int | None,
    pause_for: str | None,
    pause_until: int | None,
    resume: bool,
    comment: str,
    if_version: int | None,
    force: bool,
    yes: bool,
) -> None:
    """Change one rule, and keep the rest of the rule set as it is.

    Comments and formatting are kept.

    \b
    sluice rules set login --action count
    sluice rules set burst --action block --limit 40
    sluice rules set burst --pause-for 2h   # only counts, and blocks again by itself
    sluice rules set burst --resume
    """
    if (pause_for is not None) + (pause_until is not None) + resume > 1:
        raise click.UsageError("Give only one of --pause-for, --pause-until and --resume.")
    changes: dict[str, str | int] = {
        key: value for key, value in (("action", action), ("limit", limit)) if value is not None
    }
    values: dict[str, Value] = dict(changes)
    if pause_for is not None:
        pause_until = int(time.time()) + parse_duration(pause_for)
    if pause_until is not None or resume:
        changes["paused_until"] = pause_until or 0
        values["paused_until"] = end_of_pause(pause_until or 0)
    if not changes:
        raise click.UsageError("Nothing to change. Give --action, --limit, --pause-for, --pause-until or --resume.")
    text = session.client.get("/v1/rules", RuleSetView).value.text
    try:
        text = edited(text, name, values)
    except EditError as exc:
        raise click.ClickException(str(exc)) from exc
    version = _confirm(session, text, "Put this in force?", if_version, yes)
    body = {"rule": name, **changes, "comment": comment, **({"force": True} if force else {})}
    session.change("POST", "/v1/rules/edit", body=body, headers=_if_match(version))


@rules.command()
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Versions to show.")
@api_command
def history(session: Session, limit: int) -> None:
    """List the versions, newest first.

    \b
    sluice rules history
    """
    answer = session.client.pages("/v1/rules/history", VersionPage, "versions", most=limit, page=100)
    session.show(answer, _history_view)


@rules.command()
@click.argument("version", type=click.IntRange(1))
@comment_option
@version_option
@force_option
@yes_option
@api_command
def rollback(session: Session, version: int, comment: str, if_version: int | None, force: bool, yes: bool) -> None:
    """Put an earlier version in force again, as a new version.

    \b
    sluice rules rollback 6
    """
    text = session.client.get("/v1/rules", RuleSetView, version=version).value.text
    base = _confirm(session, text, f"Put version {version} in force again?", if_version, yes)
    body = {"version": version, "comment": comment, **({"force": True} if force else {})}
    session.change("POST", "/v1/rules/rollback", body=body, headers=_if_match(base))


def _plan(session: Session, text: str) -> Answer[RulesPlan]:
    return session.client.call("POST", "/v1/rules/plan", RulesPlan, body={"text": text})


def _confirm(session: Session, text: str, question: str, if_version: int | None, yes: bool) -> int:
    """Shows what ``text`` would change, asks, and returns the version that the change is based on."""
    plan = _plan(session, text).value
    session.print(*_plan_view(plan))
    ask(question, yes=yes)
    return plan.version if if_version is None else if_version


def _if_match(version: int) -> dict[str, str]:
    return {"If-Match": f'"{version}"'}


def _plan_view(plan: RulesPlan) -> Iterator[Printable]:
    for change in plan.changes:
        mark, colour = MARKS[change.change]
        yield Text.assemble((f"{mark} {change.rule}", colour))
        for line in change.words:
            yield Text("    ") + plain(line)
    for now in plan.now:
        span = format_duration(now.span_s)
        yield f"  {now.rule}: of {now.clients:,} clients in {span} of the {now.source} log, {now.over:,} would be over"
    for note in plan.notes:
        yield Text("! ", "yellow") + plain(note)
    for reason in plan.needs_force:
        yield Text("! ", "red") + plain(f"Needs --force: {reason}.")
    yield f"Against version {plan.version}: {as_sentence(plan.detail)}"


def _history_view(page: VersionPage) -> Iterator[Printable]:
    rows = [
        (f"{v.version}{' in force' if v.active else ''}", v.rules, local(v.saved_at), v.by, v.comment)
        for v in page.versions
    ]
    yield table(("version", "rules", "saved", "by", "comment"), rows, right=("rules",))
