"""Feeds that commands read: from a file, from standard input, or over HTTPS."""

import sys
from pathlib import Path

import click

from chalicelib.core.feeds import FeedError, PublishedList, parse_feed
from chalicelib.edges.https_feeds import HttpsFeeds
from chalicelib.ports import Unavailable

FEED = "FILE|URL"
"""Form of the name of a feed."""


def published(name: str) -> PublishedList:
    """Returns the list in a file, at an https address, or, for '-', on standard input. Raises ClickException."""
    try:
        return parse_feed(_content(name))
    except (OSError, FeedError, Unavailable) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else str(exc)
        raise click.ClickException(f"{name}: {reason}") from exc


def _content(name: str) -> bytes:
    if name == "-":
        return sys.stdin.buffer.read()
    return HttpsFeeds().read(name) if name.startswith("https://") else Path(name).read_bytes()
