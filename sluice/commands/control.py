"""``sluice pause``, ``resume`` and ``breaker reset``: stop rules from blocking, and let them block again."""

import click

from sluice.commands.shared.api import Session, api_command, ask, yes_option
from sluice.commands.shared.times import DURATION


@click.command()
@click.option("--release", is_flag=True, help="Also empty the IP sets, so that no request is refused.")
@yes_option
@api_command
def pause(session: Session, release: bool, yes: bool) -> None:
    """Stop rules from blocking new clients.

    Counting continues, and existing blocks run out unless --release is given.

    \b
    sluice pause
    sluice pause --release       # and let blocked clients through
    """
    if release:
        ask("Empty the IP sets, so that no request is refused?", yes=yes)
    session.change("POST", "/v1/pause", body={"release": release})


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
@click.argument("rule", required=False)
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
