"""``sluice records``: lists, shows and removes stored records that cannot be read."""

from collections.abc import Iterator, Sequence

import click

from chalicelib.admin.status import Status
from chalicelib.admin.unreadable import PATH, UnreadableView
from chalicelib.core.state.records import MOST_UNREADABLE, Unreadable
from chalicelib.core.wording import plural
from sluice.commands.shared.api import Printable, Session, api_command, ask, yes_option
from sluice.commands.shared.output import table
from sluice.commands.shared.times import local


@click.group()
def records() -> None:
    """List, show and remove stored records that cannot be read.

    Such a record was damaged, typed by hand, or written by another version. Sluice skips it: a block is not published,
    and an allowlist entry still exempts the network that it names.
    """


@records.command(name="list")
@api_command
def list_records(session: Session) -> None:
    """List records that cannot be read, as the sweep found them.

    \b
    sluice records list
    """
    session.show(session.client.get("/v1/status", Status), lambda status: unreadable_view(status.unreadable))


def unreadable_view(unreadable: Sequence[Unreadable]) -> Iterator[Printable]:
    if unreadable:
        yield table(("kind", "id", "reason"), [(each.kind, each.id, each.reason) for each in unreadable])
    yield f"{counted(unreadable)} cannot be read."


def counted(unreadable: Sequence[Unreadable]) -> str:
    """Returns the number of unreadable records in words: there may be more than are listed."""
    more = " or more" if len(unreadable) == MOST_UNREADABLE else ""
    return f"{len(unreadable)}{more} records" if more else plural(len(unreadable), "record")


kind_argument = click.argument("kind")
id_argument = click.argument("id")


@records.command()
@kind_argument
@id_argument
@api_command
def show(session: Session, kind: str, id: str) -> None:
    """Show a record as it is stored, and why it cannot be read.

    \b
    sluice records show allow 192.0.2.77/24
    """
    session.show(session.client.get(PATH, UnreadableView, kind=kind, id=id), _view)


def _view(record: UnreadableView) -> Iterator[Printable]:
    yield f"The {record.kind} record {record.id} cannot be read: {record.reason}"
    if record.expires_at is not None:
        yield f"It expires at {local(record.expires_at)}."
    yield record.body or "It has no body."


@records.command()
@kind_argument
@id_argument
@yes_option
@api_command
def remove(session: Session, kind: str, id: str, yes: bool) -> None:
    """Remove a record that cannot be read.

    Removes no record that can be read. The audit keeps what was stored.

    \b
    sluice records remove allow 192.0.2.77/24
    """
    ask(f"Remove the {kind} record {id}?", yes=yes)
    session.change("DELETE", PATH, query={"kind": kind, "id": id})


@records.command()
@kind_argument
@id_argument
@click.argument("body")
@click.option(
    "--expires-at", type=click.IntRange(0), metavar="SECONDS", help="When the store may remove it, in epoch seconds."
)
@api_command
def restore(session: Session, kind: str, id: str, body: str, expires_at: int | None) -> None:
    """Put back a record that was removed because it cannot be read.

    \b
    sluice records restore allow 192.0.2.77/24 '{"network": "192.0.2.77/24"}'
    """
    session.change("PUT", PATH, body={"kind": kind, "id": id, "body": body, "expires_at": expires_at})
