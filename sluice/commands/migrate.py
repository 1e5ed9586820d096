"""``sluice migrate``: moves from other limiters, after showing what becomes of each of their settings."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from chalicelib.admin.changes import ChangeAnswer
from chalicelib.admin.rule_sets import RulesPlan
from chalicelib.admin.schemas import MOST_NETWORKS
from chalicelib.core.durations import format_duration
from chalicelib.core.rules import LONGEST_BLOCK_S
from chalicelib.core.rules_toml import RulesError, parse_rules
from chalicelib.core.wording import plural
from sluice.api_client import ApiError, Unreachable
from sluice.commands.shared.api import RefusedCommand, Session, as_sentence, ask, client_of, yes_option
from sluice.commands.shared.options import EXISTING_FOLDER, NEW_FILE, auth_option, json_output, read_text
from sluice.commands.shared.output import output, print_json, table
from sluice.deploy.account import AwsAccount, AwsError, connect
from sluice.migration.account import documents_of
from sluice.migration.fail2ban import JailError, fail2ban_plan
from sluice.migration.old_stack import Document, OldStackError, old_stack
from sluice.migration.plan import Fate, Import, Plan
from sluice.migration.stack_plan import stack_plan

STACK, FAIL2BAN = "security-automations", "fail2ban"
STYLES = {Fate.BY_HAND: "yellow", Fate.UNUSED: "dim"}


@click.command()
@click.argument("files", nargs=-1, metavar="[FILE]...", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--from",
    "limiter",
    type=click.Choice((STACK, FAIL2BAN)),
    default=STACK,
    show_default=True,
    help="The old limiter. For fail2ban, name its jail.conf, jail.local and files of jail.d, in this order.",
)
@click.option("--stack", metavar="NAME", help="CloudFormation stack of the old solution.")
@click.option("--from-dir", "folder", type=EXISTING_FOLDER, help="Read exported files instead of the AWS account.")
@click.option("--rules-out", type=NEW_FILE, help="Write the rules to this file.")
@click.option("--region", metavar="NAME", help="AWS region of the stack; by default the one boto3 finds.")
@click.option("--profile", metavar="NAME", help="Profile of the AWS credentials.")
@click.option("--url", envvar="SLUICE_URL", metavar="URL", show_envvar=True, help="Admin API to apply the plan to.")
@auth_option("Send the token in SLUICE_TOKEN, or sign with AWS credentials.", envvar="SLUICE_AUTH")
@click.option("--dry-run", is_flag=True, help="Show the plan and stop.")
@yes_option
@json_output("Print the plan as JSON on standard output.")
def migrate(
    files: tuple[Path, ...],
    limiter: str,
    stack: str | None,
    folder: Path | None,
    rules_out: Path | None,
    region: str | None,
    profile: str | None,
    url: str | None,
    auth: str,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Move from Security Automations for AWS WAF, or from fail2ban, after showing the plan.

    Reads the old stack's parameters, its two configuration files, its IP sets and its web ACL, and shows what becomes
    of each setting: rules with the origin of every line, networks for the allowlist and to block, with their ends, logs
    to count, and managed rule groups to keep. Changes nothing in the old stack. With the address of an admin API, asks
    and then puts the rules in force, which only count, and imports the networks.

    \b
    sluice migrate --stack waf-prod --rules-out rules.toml
    sluice migrate --from-dir exported/ --rules-out rules.toml
    sluice migrate --from fail2ban /etc/fail2ban/jail.conf /etc/fail2ban/jail.local
    """
    plan = _fail2ban(files) if limiter == FAIL2BAN else _stack(files, stack, folder, region, profile)
    text = plan.rules_text()
    _check(text, plan)
    console = output(sys.stderr if as_json else None)
    if rules_out is not None:
        _write(rules_out, text)
    if not as_json:
        _show(plan, console, rules_out)
    applied = False
    if url is not None and not dry_run:
        with _calls(as_json):
            _apply(Session(client_of(url, auth), as_json), plan, text, console, yes=yes)
        applied = True
    if as_json:
        print_json(_json(plan, text, applied=applied))
    elif not applied:
        _next_steps(plan, console, rules_out)


def _stack(
    files: Sequence[Path], stack: str | None, folder: Path | None, region: str | None, profile: str | None
) -> Plan:
    """Returns the plan for the stack that the options name. Raises ClickException."""
    if files and (folder or stack):
        raise click.UsageError("Name files or a stack, not both.")
    documents: dict[str, Document]
    if folder is not None:
        documents = {str(path.relative_to(folder)): _json_of(path) for path in sorted(folder.rglob("*.json"))}
    elif files:
        documents = {path.name: _json_of(path) for path in files}
    elif stack is not None:
        account = click.get_current_context().find_object(AwsAccount)
        try:
            documents = documents_of(account or connect(region=region, profile=profile), stack)
        except AwsError as exc:
            raise click.ClickException(str(exc)) from exc
    else:
        raise click.UsageError("Name the old stack with --stack, or a folder of exported files with --from-dir.")
    try:
        return stack_plan(old_stack(documents, stack), int(time.time()))
    except OldStackError as exc:
        raise click.ClickException(str(exc)) from exc


def _fail2ban(files: Sequence[Path]) -> Plan:
    """Returns the plan for fail2ban's jails. Raises ClickException."""
    if not files:
        raise click.UsageError("Name fail2ban's files, such as /etc/fail2ban/jail.conf /etc/fail2ban/jail.local.")
    try:
        return fail2ban_plan({str(path): read_text(path) for path in files})
    except JailError as exc:
        raise click.ClickException(str(exc)) from exc


def _json_of(path: Path) -> Document:
    try:
        return json.loads(read_text(path))
    except ValueError as exc:
        raise click.ClickException(f"{path}: not valid JSON: {exc}") from exc


def _check(text: str, plan: Plan) -> None:
    """Raises ClickException if the rules of a plan are not valid, for example because there are too many."""
    if not plan.rules:
        return
    try:
        parse_rules(text)
    except RulesError as exc:
        raise click.ClickException(f"the rules of {plan.title} cannot be used as they are:\n{exc}") from exc


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, "utf-8")
    except OSError as exc:
        raise click.ClickException(f"{path}: {exc.strerror}") from exc


def _show(plan: Plan, console: Console, rules_out: Path | None) -> None:
    console.print(f"{plan.title}\n")
    rows = [(row.setting, row.value, Text(row.fate, STYLES.get(row.fate, "")), row.detail) for row in plan.rows]
    console.print(table(("setting", "value", "becomes", ""), rows))
    for title, imports in (("allowlist", plan.allowlist), ("blocks", plan.blocks)):
        if imports:
            cells = [(str(each.network), _end(each), each.origin) for each in imports]
            console.print(table((f"{title}: network", "ends", "from"), cells, title=""))
    if rules_out is None:
        console.print(f"\n{plan.rules_text()}", soft_wrap=True)
    else:
        console.print(f"\n{plural(len(plan.rules), 'rule')} written to {rules_out}.")


def _end(each: Import) -> str:
    return "-" if each.until is None else time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(each.until))


def _next_steps(plan: Plan, console: Console, rules_out: Path | None) -> None:
    rules = rules_out or "rules.toml"
    console.print("\nThe old limiter is unchanged. To let Sluice count beside it:")
    if not plan.setups:
        console.print(f"  sluice setup --rules {rules}, with the log to count (docs/sources.md)")
    for number, options in enumerate(plan.setups):
        console.print(f"  sluice setup {options}{'' if number else f' --rules {rules}'}", soft_wrap=True)
    console.print("  sluice deploy --stage prod")
    further = ["Then run this command again with SLUICE_URL and SLUICE_TOKEN set: it imports the networks."]
    if any("--no-notification" in options for options in plan.setups):
        further.append(
            "The buckets notify the old stack; docs/operate/objects.md shows how to notify the queue as well."
        )
    for line in (*further, "docs/migrating.md continues from there."):
        console.print(line, soft_wrap=True)


@contextmanager
def _calls(as_json: bool) -> Iterator[None]:
    """Converts errors of the admin API into ClickException."""
    try:
        yield
    except ApiError as exc:
        raise RefusedCommand(exc, as_json=as_json) from exc
    except Unreachable as exc:
        raise click.ClickException(str(exc)) from exc


def _apply(session: Session, plan: Plan, text: str, console: Console, *, yes: bool) -> None:
    """Asks, puts the rules in force and imports the networks. Raises ApiError and Unreachable at the first failure."""
    rules = session.client.call("POST", "/v1/rules/plan", RulesPlan, body={"text": text}).value
    console.print(f"\nAgainst version {rules.version} of the rules: {as_sentence(rules.detail)}")
    ask(
        f"Put the rules, which only count, in force, allow {plural(len(plan.allowlist), 'network')} and block "
        f"{plural(len(plan.blocks), 'network')}?",
        yes=yes,
    )
    if_match = {"If-Match": f'"{rules.version}"'}
    comment = f"migrated from {plan.title}"
    _change(session, "PUT", "/v1/rules", body={"text": text, "comment": comment}, headers=if_match)
    refused: list[str] = []
    for each in plan.allowlist:
        body = {"network": str(each.network), "comment": each.origin, "expires_at": each.until}
        refused += _unless_forced(partial(_change, session, "PUT", "/v1/allowlist", body=body), [each])
    now = int(time.time())
    for until, group in groupby(sorted(plan.blocks, key=lambda each: each.until or 0), lambda each: each.until):
        block_for = format_duration(LONGEST_BLOCK_S if until is None else max(1, until - now))
        refused += _block(session, list(group), block_for)
    for network in refused:
        click.echo(f"note: {network} needs --force: import it with sluice allow or sluice block", err=True)


def _block(session: Session, imports: Sequence[Import], block_for: str) -> Iterator[str]:
    """Blocks networks with the same end, as many at a time as the API accepts, and yields those that need force."""
    for start in range(0, len(imports), MOST_NETWORKS):
        portion = imports[start : start + MOST_NETWORKS]
        if _unless_forced(partial(_post_blocks, session, portion, block_for), portion):
            for each in portion:
                yield from _unless_forced(partial(_post_blocks, session, [each], block_for), [each])


def _post_blocks(session: Session, imports: Sequence[Import], block_for: str) -> None:
    blocks = [{"network": str(each.network), "block_for": block_for, "comment": each.origin} for each in imports]
    _change(session, "POST", "/v1/blocks", body={"blocks": blocks})


def _change(session: Session, method: str, path: str, **call: Any) -> None:
    """Makes a call; prints its outcome and its undo, unless the plan is printed as JSON."""
    if session.as_json:
        session.client.call(method, path, ChangeAnswer, **call)
    else:
        session.change(method, path, **call)


def _unless_forced(call: Callable[[], None], imports: Sequence[Import]) -> list[str]:
    """Makes a call, and returns its networks if the API accepts it only with force."""
    try:
        call()
    except ApiError as exc:
        if not exc.needs_force:
            raise
        return [str(each.network) for each in imports]
    return []


def _json(plan: Plan, text: str, *, applied: bool) -> dict[str, Any]:
    return {
        "from": plan.title,
        "applied": applied,
        "rules": text,
        "settings": [
            {"setting": row.setting, "value": row.value, "becomes": str(row.fate), "detail": row.detail}
            for row in plan.rows
        ],
        "allowlist": [_import_json(each) for each in plan.allowlist],
        "blocks": [_import_json(each) for each in plan.blocks],
        "managed_rule_groups": plan.managed_groups,
        "setup": [f"sluice setup {options}" for options in plan.setups],
    }


def _import_json(each: Import) -> dict[str, Any]:
    return {"network": str(each.network), "until": each.until, "from": each.origin}
