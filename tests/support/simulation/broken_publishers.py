"""Publishers that break one step of the protocol each, for simulations that must notice."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from chalicelib.core.ipsets import BlockList, IpSet
from chalicelib.core.state.publishing import Publisher
from chalicelib.pipeline.followed_blocks import FollowedBlocks
from chalicelib.pipeline.publish import Addresses, Publish, SetsCompared, SetsRead
from chalicelib.pipeline.stored import State
from chalicelib.pipeline.tally_logs import TimeLeft
from chalicelib.ports import Conflict, Throttled, Unavailable
from chalicelib.reports import PublishReport


class SendsTheOldListAgain(Publish):
    """Under a fresh token, after a lost lock: what AWS's own solution does."""

    def _settle(self, time_left: TimeLeft, *, waits: bool) -> PublishReport:
        changes = self._compare(self._read(self._sets).published).changes
        for ip_set, addresses in changes.items():
            for _ in range(10):
                self._sleep(1.2)
                try:
                    self._ip_sets.update(ip_set, addresses, self._ip_sets.get(ip_set)[1])
                    break
                except (Conflict, Throttled):
                    continue
        return PublishReport()


class ReadsTheListFirst(Publish):
    def _read(self, sets: Sequence[IpSet]) -> SetsRead:
        self._early = super()._compare(super()._read(sets).published)
        return super()._read(sets)

    def _compare(self, published: Mapping[IpSet, Addresses]) -> SetsCompared:
        return still_different(self._early, published)


class DoesNotLookAgain(Publish):
    """Ends with its update instead of with a round in which nothing differs. It is slow, as the gap is narrow."""

    def _settle(self, time_left: TimeLeft, *, waits: bool) -> PublishReport:
        for ip_set in self._sets:
            for _ in range(20):
                read = self._read(self._sets)
                changes = self._compare(read.published).changes
                if ip_set not in changes:
                    break
                self._sleep(30)
                try:
                    self._ip_sets.update(ip_set, changes[ip_set], read.tokens[ip_set])
                    break
                except (Conflict, Throttled, Unavailable):
                    continue
        return PublishReport()


class RemembersTheList(Publish):
    """Reads the list once, for all its rounds."""

    _once: SetsCompared | None = None

    def _settle(self, time_left: TimeLeft, *, waits: bool) -> PublishReport:
        self._once = None
        return super()._settle(time_left, waits=waits)

    def _compare(self, published: Mapping[IpSet, Addresses]) -> SetsCompared:
        if self._once is None:
            self._once = super()._compare(published)
        return still_different(self._once, published)


class _Following(Publish):
    """Follows the stream with ``follower``."""

    follower: type[FollowedBlocks]

    def __init__(self, *, state: State, clock: Callable[[], float], **others: Any) -> None:
        super().__init__(state=state, clock=clock, **others)
        self._blocks = self.follower(state, clock)


class RelyingOnItsMemory(FollowedBlocks):
    def current(self) -> BlockList:
        self._name = self._state.control(Publisher).record.name
        return super().current()


class IgnoresWhoLeads(_Following):
    """Believes that it has received every change, though another container may have."""

    follower = RelyingOnItsMemory


class Trusting(FollowedBlocks):
    def _follow_heartbeat(self, at: int) -> None:
        self._note_due = True


class TrustsTheStreamForEver(_Following):
    """Never reads all blocks again."""

    follower = Trusting


class IgnoresTokens(Publish):
    """Takes the contents of the sets for what it has written, until an update fails."""

    def _read(self, sets: Sequence[IpSet]) -> SetsRead:
        known = [ip_set for ip_set in sets if ip_set in self._known]
        unknown = super()._read([ip_set for ip_set in sets if ip_set not in self._known])
        return unknown._replace(
            published={**unknown.published, **{ip_set: self._known[ip_set].addresses for ip_set in known}},
            tokens={**unknown.tokens, **{ip_set: self._known[ip_set].token for ip_set in known}},
        )


def still_different(old: SetsCompared, published: Mapping[IpSet, Addresses]) -> SetsCompared:
    """Returns the changes of an old list that have not been made."""
    changes = {s: networks for s, networks in old.changes.items() if s in published and networks != published[s]}
    return old._replace(changes=changes)
