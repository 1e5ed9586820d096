"""``sluice feeds``: lists of networks that others publish."""

from collections.abc import Iterator

import click
from rich.text import Text

from chalicelib.admin.feeds import FeedList
from chalicelib.core.feeds import PublishedList, implausible
from chalicelib.core.printable import printable
from chalicelib.core.wording import plural
from sluice.commands.shared.api import Printable, Session, api_command
from sluice.commands.shared.feeds import FEED, published
from sluice.commands.shared.options import json_output
from sluice.commands.shared.output import print_json, table
from sluice.commands.shared.times import local

MOST_SHOWN = 5
"""Most skipped entries whose reasons are printed."""


@click.group()
def feeds() -> None:
    """Read lists of networks that others publish, such as those of crawlers."""


@feeds.command("list")
@api_command
def list_(session: Session) -> None:
    """List the feeds of the rules in force, and how their last checks ended.

    A feed is checked every hour. If a check fails, its last list stays in use, and the reason is shown.

    \b
    sluice feeds list
    """
    session.show(session.client.get("/v1/feeds", FeedList), _view)


def _view(answer: FeedList) -> Iterator[Printable]:
    for feed in answer.feeds:
        if feed.problem:
            yield Text(printable(f"{feed.name}: {feed.problem}"), "bold red")
    rows = (
        (
            feed.name,
            feed.respond or "allow",
            f"{feed.networks:,}",
            local(feed.checked_at),
            local(feed.changed_at) if feed.changed_at else "never",
            feed.url,
        )
        for feed in answer.feeds
    )
    yield table(("feed", "response", "networks", "checked", "changed", "address"), rows, right=("networks",))
    yield plural(len(answer.feeds), "feed")


@feeds.command()
@click.argument("feed", metavar=FEED)
@click.option("--before", metavar=FEED, help="The list as it was before: reject one that shrinks or grows implausibly.")
@json_output("Print one JSON object.")
def check(feed: str, before: str | None, as_json: bool) -> None:
    """Print the networks of a published list, one per line, for 'allow -', 'block -' or --allowlist.

    Accepts a file, '-' for standard input, or an https address whose server is not in a private network. The list is
    text with one network per line, or JSON as crawlers, AWS and Spamhaus publish it. Adjacent networks are merged. A
    list is rejected if it is empty or too large, if more than one in a hundred entries cannot be used, or if it has far
    fewer networks than --before, or far more networks or addresses: then nothing is printed, and the exit code is 1.

    \b
    sluice feeds check https://www.bing.com/toolbox/bingbot.json > bingbot.txt
    sluice feeds check https://www.bing.com/toolbox/bingbot.json --before bingbot.txt > new.txt
    sluice allow - --comment bingbot --for 2d --yes < bingbot.txt
    """
    content = published(feed)
    doubt = None if before is None else implausible(content.networks, published(before).networks)
    if doubt is not None:
        raise click.ClickException(f"{printable(feed)}: {doubt}; if that is right, leave out --before")
    if as_json:
        print_json(content)
        return
    for network in content.networks:
        click.echo(network)
    for note in _notes(content):
        click.echo(f"note: {note}", err=True)


def _notes(content: PublishedList) -> list[str]:
    entries = f"{content.entries:,} {'entry' if content.entries == 1 else 'entries'}"
    notes = [f"{entries} in {plural(len(content.networks), 'network')}"]
    notes += [f"skipped: {reason}" for reason in content.skipped[:MOST_SHOWN]]
    more = len(content.skipped) - MOST_SHOWN
    return [*notes, f"skipped {more:,} more"] if more > 0 else notes
