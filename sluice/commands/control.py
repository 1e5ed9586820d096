"""``sluice pause``, ``resume`` and ``breaker reset``: stopping everything, and starting again."""

import click

from sluice.commands.shared.api import Desk, ask, desk, yes_option
from sluice.commands.shared.times import Duration


@click.command()
@click.option("--release", is_flag=True, help="Also empty the IP sets: nobody is refused.")
@yes_option
@desk
def pause(here: Desk, release: bool, yes: bool) -> None:
    """Stop enforcing: nothing new is blocked. Counting goes on.

    \b
    sluice pause
    sluice pause --release       # and let everybody in
    """
    if release:
        ask("Empty the IP sets, so that nobody is refused?", yes=yes)
    here.changed(here.client.call("POST", "/v1/pause", body={"release": release}))


@click.command()
@desk
def resume(here: Desk) -> None:
    """Enforce again, after a pause.

    \b
    sluice resume
    """
    here.changed(here.client.call("POST", "/v1/resume", body={}))


@click.group()
def breaker() -> None:
    """The circuit breaker, which stops new blocks when implausibly many come at once."""


@breaker.command()
@click.option("--quiet-for", type=Duration(), default="10m", show_default=True, help="How long it stays closed.")
@yes_option
@desk
def reset(here: Desk, quiet_for: str, yes: bool) -> None:
    """Close the breaker: you have looked, and the blocks are right.

    \b
    sluice breaker reset --quiet-for 30m
    """
    ask(f"Block again, with no breaker for {quiet_for}?", yes=yes)
    here.changed(here.client.call("POST", "/v1/breaker/reset", body={"quiet_for": quiet_for}))
