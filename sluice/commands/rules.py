"""``sluice rules``: see, plan, apply, roll back."""

from collections.abc import Sequence
from typing import Any

import click
from rich.text import Text

from sluice.commands.shared.api import Desk, ask, desk, plain, sentence, table, yes_option
from sluice.commands.shared.times import local

FILE = click.File("r", encoding="utf-8")
MARKS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}

version_option = click.option(
    "--if-version", type=click.IntRange(0), metavar="N", help="Only if version N is the one in force."
)
comment_option = click.option("--comment", default="", metavar="TEXT", help="Why; kept with the version.")


@click.group()
def rules() -> None:
    """The rule set: see it, plan a change, apply it, roll back."""


@rules.command()
@click.option("--version", type=click.IntRange(1), metavar="N", help="An earlier version.")
@desk
def show(here: Desk, version: int | None) -> None:
    """The rule set in force, as TOML.

    \b
    sluice rules show > rules.toml
    """
    found = here.client.get("/v1/rules", version=version)
    if here.as_json:
        here.show(found)
        return
    if found["problem"]:
        click.secho(f"version {found['version']}: {found['problem']}", fg="red", err=True)
    click.echo(found["text"], nl=not found["text"].endswith("\n"))


@rules.command()
@click.argument("file", type=FILE)
@desk
def plan(here: Desk, file: Any) -> None:
    """Check a file and say what it would change. Changes nothing; - reads standard input.

    \b
    sluice rules plan rules.toml
    """
    found = here.client.call("POST", "/v1/rules/plan", body={"text": file.read()})
    here.show(found, *_changes(found["changes"]), _against(found))


@rules.command()
@click.argument("file", type=FILE)
@comment_option
@version_option
@yes_option
@desk
def apply(here: Desk, file: Any, comment: str, if_version: int | None, yes: bool) -> None:
    """Show what a file would change, ask, and put it in force. Fails if somebody else was quicker.

    \b
    sluice rules apply rules.toml --comment "sale starts"
    sluice rules apply rules.toml --if-version 7 --yes
    """
    text = file.read()
    planned = here.client.call("POST", "/v1/rules/plan", body={"text": text})
    if not here.as_json:
        here.show(None, *_changes(planned["changes"]), _against(planned))
    ask("Put it in force?", yes=yes)
    version = planned["version"] if if_version is None else if_version
    body = {"text": text, "comment": comment}
    here.changed(here.client.call("PUT", "/v1/rules", body=body, headers={"If-Match": f'"{version}"'}))


@rules.command()
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Versions to show.")
@desk
def history(here: Desk, limit: int) -> None:
    """Every version, newest first.

    \b
    sluice rules history
    """
    found = here.client.pages("/v1/rules/history", "versions", most=limit, page=100)
    rows = [
        (
            f"{each['version']}{' in force' if each['active'] else ''}",
            each["rules"],
            local(each["saved_at"]),
            each["by"],
            each["comment"],
        )
        for each in found["versions"]
    ]
    here.show(found, table(("version", "rules", "saved", "by", "comment"), rows, right=("rules",)))


@rules.command()
@click.argument("version", type=click.IntRange(1))
@comment_option
@version_option
@yes_option
@desk
def rollback(here: Desk, version: int, comment: str, if_version: int | None, yes: bool) -> None:
    """Put an earlier version in force again, as a new one.

    \b
    sluice rules rollback 6
    """
    earlier = here.client.get("/v1/rules", version=version)
    planned = here.client.call("POST", "/v1/rules/plan", body={"text": earlier["text"]})
    if not here.as_json:
        here.show(None, *_changes(planned["changes"]), _against(planned))
    ask(f"Put version {version} in force again?", yes=yes)
    base = planned["version"] if if_version is None else if_version
    body = {"version": version, "comment": comment}
    here.changed(here.client.call("POST", "/v1/rules/rollback", body=body, headers={"If-Match": f'"{base}"'}))


def _changes(changes: Sequence[dict[str, Any]]) -> list[Text]:
    lines = []
    for change in changes:
        mark, colour = MARKS[change["change"]]
        lines.append(Text.assemble((f"{mark} {change['rule']}", colour)))
        lines += [Text("    ") + plain(word) for word in change["words"]]
    return lines


def _against(planned: dict[str, Any]) -> str:
    return f"Against version {planned['version']}: {sentence(planned['detail'])}"
