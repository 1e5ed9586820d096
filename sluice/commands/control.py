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
    """Reset the circuit breaker.

    The breaker opens when implausibly many clients would be blocked within a minute. Rules then block no new client
    until it is reset.
    """


@breaker.command()
@click.option("--quiet-for", type=DURATION, default="10m", show_default=True, help="Time for which it stays closed.")
@yes_option
@api_command
def reset(session: Session, quiet_for: str, yes: bool) -> None:
    """Close the breaker after you have checked that the blocks are right.

    \b
    sluice breaker reset --quiet-for 30m
    """
    ask(f"Block again, without the breaker for {quiet_for}?", yes=yes)
    session.change("POST", "/v1/breaker/reset", body={"quiet_for": quiet_for})
