"""``sluice pause``, ``resume`` and ``breaker reset``: stop rules from blocking, and let them block again."""

import time
from typing import Any

import click

from chalicelib.core.durations import parse_duration
from sluice.commands.shared.api import Session, api_command, ask, yes_option
from sluice.commands.shared.completing import complete_rule
from sluice.commands.shared.times import DURATION, FUTURE


@click.command()
@click.option("--release", is_flag=True, help="Also empty the IP sets, so that no request is refused.")
@click.option("--for", "pause_for", type=DURATION, help="Time after which rules block again; until resumed by default.")
@click.option("--until", type=FUTURE, help="Time at which rules block again; local unless it has a zone.")
@click.option("--comment", default="", metavar="TEXT", help="The reason.")
@yes_option
@api_command
def pause(session: Session, release: bool, pause_for: str | None, until: int | None, comment: str, yes: bool) -> None:
    """Stop rules from blocking new clients.

    Counting continues, and existing blocks run out unless --release is given. Given again, it changes the pause.

    \b
    sluice pause
    sluice pause --release       # and let blocked clients through
    sluice pause --for 30m --comment "load test, ticket 4712"
    """
    if pause_for is not None and until is not None:
        raise click.UsageError("Give --for or --until, not both.")
    if pause_for is not None:
        until = int(time.time()) + parse_duration(pause_for)
    body: dict[str, Any] = {"release": release}
    # Left out unless given, so that an earlier version of the API accepts the rest.
    body |= {"until": until} if until is not None else {}
    body |= {"comment": comment} if comment else {}
    if release:
        ask("Empty the IP sets, so that no request is refused?", yes=yes)
    session.change("POST", "/v1/pause", body=body)


@click.command()
@api_command
def resume(session: Session) -> None:
    """Let rules block again after a pause.

    \b
    sluice resume
    """
    session.change("POST", "/v1/resume", body={})


@click.group()
def breaker() -> None:
    """Reset circuit breakers.

    Each rule has one. It stops the rule when it would block more than a set share of the known clients within ten
    minutes. It closes by itself once the rule hits few of them.
    """


@breaker.command()
@click.argument("rule", required=False, shell_complete=complete_rule)
@click.option("--quiet-for", type=DURATION, default="10m", show_default=True, help="Time for which it stays closed.")
@yes_option
@api_command
def reset(session: Session, rule: str | None, quiet_for: str, yes: bool) -> None:
    """Resume RULE, or all rules, after you have checked that the blocks are right.

    Waiting offenders are then blocked.

    \b
    sluice breaker reset burst --quiet-for 30m
    sluice breaker reset
    """
    which = f"the circuit breaker of {rule}" if rule else "all circuit breakers"
    ask(f"Block again, and keep {which} closed for {quiet_for}?", yes=yes)
    body = {"quiet_for": quiet_for, **({"rule": rule} if rule else {})}
    session.change("POST", "/v1/breaker/reset", body=body)
