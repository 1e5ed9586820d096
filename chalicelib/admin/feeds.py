"""Feeds: the lists of networks that others publish, as they were checked last."""

from typing import Annotated

from chalicelib.admin.answers import TimedAnswer, at_most
from chalicelib.core.rules_toml import MOST_FEEDS
from chalicelib.core.state.feeds import Feed
from chalicelib.pipeline.stored import State


class FeedList(TimedAnswer, frozen=True, kw_only=True):
    feeds: Annotated[list[Feed], at_most(2 * MOST_FEEDS)]
    """In order of name. One that was just removed from the rules is listed until its entries and blocks are."""


def list_feeds(state: State, now: int) -> FeedList:
    """Returns the feeds that have been checked."""
    return FeedList(now=now, feeds=state.records(Feed))
