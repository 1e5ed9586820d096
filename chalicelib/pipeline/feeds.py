"""Feeds in use: one that is due is read, and the allowlist or the blocks are brought up to date with it.

A sweep reads at most one feed, after everything else, so that neither a slow server nor a long list delays the end of
a block. Entries and blocks of a feed are records like those of an operator, whose author is a name that no token can
have. A feed changes only its own, so nothing that is read from elsewhere overrules an operator.

Each check compares the list with what is stored, so a check that failed half-way is completed by the next.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import NamedTuple, TypeVar

from msgspec.structs import replace

from chalicelib.core.addresses import NetworkSet, parse_network, span_of
from chalicelib.core.durations import DAY_S
from chalicelib.core.events import block_event, end_event
from chalicelib.core.feeds import FeedError, implausible, parse_feed
from chalicelib.core.responses import Response
from chalicelib.core.rules import FeedTerms
from chalicelib.core.state.allowlist import Allow
from chalicelib.core.state.blocks import FEED_AUTHOR, Block
from chalicelib.core.state.events import HISTORY_S, Event
from chalicelib.core.state.feeds import Feed, FeedNetworks
from chalicelib.core.wording import plural
from chalicelib.pipeline.active_rules import RulesInUse
from chalicelib.pipeline.block_lengths import name_lengths
from chalicelib.pipeline.lifting import lift
from chalicelib.pipeline.recording import recorded
from chalicelib.pipeline.stored import State, Stored
from chalicelib.ports import Conflict, Feeds, Unavailable, Write
from chalicelib.reports import FeedReport

CHECK_S = 3600
"""Seconds between two checks of a feed."""

MOST_ALLOWED = 3000
"""Most entries of the allowlist that all feeds have together: every publish reads them, and operators need some of the
5,000."""

BLOCK_S = 7 * DAY_S
"""Length of a feed's blocks. The last good list prolongs them when half of it is over, also while the feed fails."""

RECORDS_PER_WRITE = 90
"""Most entries or blocks per transaction: DynamoDB accepts 100 items, and one records the events."""

_T = TypeVar("_T")

UNFINISHED = "the last check did not end"


class Applied(NamedTuple):
    """The numbers of entries or blocks that were added and removed."""

    added: int = 0
    removed: int = 0

    def __add__(self, other: "Applied") -> "Applied":  # type: ignore[override] # of numbers, not of tuples
        return Applied(self.added + other.added, self.removed + other.removed)


class CheckFeeds:
    """One container's reader of feeds."""

    def __init__(
        self,
        *,
        state: State,
        feeds: Feeds,
        rules: Callable[[int], RulesInUse],
        clock: Callable[[], float],
        proxies: NetworkSet | None = None,
        history_s: int = HISTORY_S,
    ) -> None:
        """``rules`` returns those in use at a time in ms; ``clock``: epoch seconds. ``history_s``: how long events are
        kept. ``proxies``: networks that are not blocked, because other clients are behind them."""
        self._state = state
        self._feeds = feeds
        self._rules = rules
        self._clock = clock
        self._proxies = proxies or NetworkSet(())
        self._history_s = history_s

    def run(self) -> FeedReport | None:
        """Checks the feed that has not been checked for longest; returns None if none is due.

        A feed that is no longer in the rules loses its entries and blocks. Raises what the state store raises.
        """
        now = int(self._clock())
        in_use = self._rules(now * 1000)
        if in_use.problem is not None:
            return None  # the feeds are not known for certain
        terms = {feed.name: feed for feed in in_use.rules.feeds}
        stored = {each.id: each for each in self._state.all(Feed)}
        if removed := sorted(stored.keys() - terms.keys()):
            return self._drop(stored[removed[0]], now)
        due = [feed for name, feed in terms.items() if name not in stored or _is_due(stored[name].record, feed, now)]
        if not due:
            return None
        feed = min(due, key=lambda feed: stored[feed.name].record.checked_at if feed.name in stored else 0)
        return self._check(feed, stored[feed.name].record if feed.name in stored else None, now)

    def _drop(self, stored: Stored[Feed], now: int) -> FeedReport:
        name = stored.id
        applied = self._allow(name, (), now) + self._block(name, None, (), self._last_good(name), now)
        networks = self._state.get(FeedNetworks, name)
        with suppress(Conflict):
            self._state.write([self._state.delete(stored), *([self._state.delete(networks)] if networks else [])])
        return FeedReport(name=name, added=applied.added, removed=applied.removed)

    def _check(self, feed: FeedTerms, before: Feed | None, now: int) -> FeedReport:
        """Reads a feed, and applies what it lists or, if that cannot be used, what it listed last."""
        former = self._last_good(feed.name)
        checked = Feed(
            name=feed.name,
            url=feed.url,
            respond=feed.respond,
            checked_at=now,
            changed_at=before.changed_at if before else 0,
            networks=len(former),
            problem=UNFINISHED,
        )
        # Stored first, so that a check that cannot end is not repeated every minute.
        self._state.overwrite(checked)
        names, problem = former, ""
        try:
            # The list at another address is another list.
            names = self._read(feed, former if before is not None and before.url == feed.url else ())
        except (FeedError, Unavailable) as exc:
            problem = str(exc)
        noted = former if names == former else tuple(dict.fromkeys((*names, *former)))
        if noted != former:
            # Before anything is done: of a check that dies, the next one knows everything that it may have blocked.
            self._state.overwrite(FeedNetworks(name=feed.name, networks=noted))
        applied = Applied()
        if names:  # none is known of a feed that has never been read, or whose record is damaged
            allowed, blocked = (names, ()) if feed.respond is None else ((), names)
            try:
                applied += self._allow(feed.name, allowed, now)
            except FeedError as exc:
                names, problem = former, str(exc)
            applied += self._block(feed.name, feed.respond, blocked, former, now)
        if names != noted:
            self._state.overwrite(FeedNetworks(name=feed.name, networks=names))
        changed_at = checked.changed_at if names == former else now
        self._state.overwrite(replace(checked, networks=len(names), changed_at=changed_at, problem=problem))
        return FeedReport(
            name=feed.name, networks=len(names), added=applied.added, removed=applied.removed, problem=problem
        )

    def _last_good(self, name: str) -> tuple[str, ...]:
        stored = self._state.get(FeedNetworks, name)
        return stored.record.networks if stored is not None else ()

    def _read(self, feed: FeedTerms, former: Sequence[str]) -> tuple[str, ...]:
        """Returns the networks that a feed lists. Raises FeedError and Unavailable."""
        networks = parse_feed(self._feeds.read(feed.url)).networks
        if len(networks) > feed.most:
            raise FeedError(f"it lists {plural(len(networks), 'network')}; at most {feed.most:,} are used ('most')")
        doubt = implausible(networks, map(parse_network, former)) if former else None
        if doubt is not None:
            raise FeedError(doubt)
        return tuple(map(str, networks))

    def _allow(self, name: str, networks: Iterable[str], now: int) -> Applied:
        """Makes the allowlist hold ``networks``, and no others, as entries of the feed. Raises FeedError without room.

        An entry of an operator for the same network stays as it is.
        """
        author, listed = FEED_AUTHOR + name, dict.fromkeys(networks)
        entries = {each.id: each for each in self._state.all(Allow)}
        by_feeds = [each for each in entries.values() if each.record.by.startswith(FEED_AUTHOR)]
        own = {each.id: each for each in by_feeds if each.record.by == author}
        room = MOST_ALLOWED - len(by_feeds) + len(own)
        if len(listed) > room:
            raise FeedError(f"feeds have {MOST_ALLOWED:,} entries of the allowlist, of which {room:,} are left")
        new = [each for each in listed if each not in entries or not entries[each].record.in_force(now)]
        comment = f"listed by the feed {name}"
        writes = [
            self._state.put(Allow(network=each, comment=comment, by=author, added_at=now), over=entries.get(each))
            for each in new
        ]
        gone = [stored for id, stored in own.items() if id not in listed]
        for part in _chunks([*writes, *map(self._state.delete, gone)], RECORDS_PER_WRITE):
            self._write_entries(part)
        return Applied(len(new), len(gone))

    def _block(
        self, name: str, respond: Response | None, networks: Iterable[str], former: Collection[str], now: int
    ) -> Applied:
        """Blocks ``networks``, prolongs the feed's blocks of them, and lifts its blocks of other ``former`` ones.

        A block by a rule or an operator stays as it is, and while rules are paused, nothing is blocked.
        """
        author = FEED_AUTHOR + name
        listed = dict.fromkeys(networks if respond is not None else ())
        stored = self._state.get_many(Block, list({*listed, *former})) if listed or former else {}
        own = {id: each for id, each in stored.items() if each.record.by == author and each.record.in_force(now)}
        gone = [each for id, each in own.items() if id not in listed]
        lifted = lift(self._state, gone, now, history_s=self._history_s, by=author).blocks if gone else []
        if respond is None or not listed or self._state.pause(now).paused:
            return Applied(0, len(lifted))
        ends = {respond: now + BLOCK_S}
        new: list[Block] = []
        prolonged: list[Block] = []
        for network in listed:
            block = stored[network].record if network in stored else None
            if block is None or not block.in_force(now):
                if not self._proxies.meets(span_of(network)):
                    new.append(Block.with_ends(ends, network=network, blocked_at=now, by=author, begun_at=now))
            elif network in own and (block.response_at(now) is not respond or block.ends_at < now + BLOCK_S // 2):
                prolonged.append(block.with_other_ends(ends))
        if new:
            name_lengths(self._state, [*new, *prolonged])
        for part in _chunks([*new, *prolonged], RECORDS_PER_WRITE):
            self._write_blocks(part, stored, now)
        return Applied(len(new), len(lifted))

    def _write_entries(self, writes: Sequence[Write]) -> None:
        """Makes the writes. Those that meet a concurrent change are left to the next check."""
        try:
            self._state.write(writes)
        except Conflict:
            for write in writes if len(writes) > 1 else ():
                self._write_entries([write])

    def _write_blocks(self, blocks: Sequence[Block], stored: Mapping[str, Stored[Block]], now: int) -> None:
        """Stores blocks with their events. Those that meet a concurrent change are left to the next check."""
        writes = [self._state.put(block, over=stored.get(block.network)) for block in blocks]
        events = recorded(_events(blocks, stored, now), now * 1000, self._history_s)
        try:
            self._state.write([*writes, *events])
        except Conflict:
            for block in blocks if len(blocks) > 1 else ():
                self._write_blocks([block], stored, now)


def _is_due(checked: Feed, feed: FeedTerms, now: int) -> bool:
    """Returns whether a feed must be checked: once an hour, and when its settings in the rules have changed."""
    return (checked.url, checked.respond) != (feed.url, feed.respond) or checked.checked_at + CHECK_S <= now


def _events(blocks: Iterable[Block], stored: Mapping[str, Stored[Block]], now: int) -> list[Event]:
    """Returns the events of new blocks, each after the end of a former one; none of prolonged ones."""
    events = []
    for block in blocks:
        former = stored[block.network].record if block.network in stored else None
        if former is not None and former.in_force(now):
            continue
        if former is not None:
            events.append(end_event(former, former.ends_at))
        events.append(block_event(block))
    return events


def _chunks(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
