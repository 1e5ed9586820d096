"""Publishers that break one step of the protocol each, for simulations that must notice."""

from collections.abc import Mapping, Sequence

from chalicelib.core.ipsets import IpSet
from chalicelib.pipeline.publish import Addresses, Publish, SetsCompared, SetsRead
from chalicelib.ports import Conflict, Throttled, Unavailable
from chalicelib.reports import PublishReport


class SendsTheOldListAgain(Publish):
    """Under a fresh token, after a lost lock: what AWS's own solution does."""

    def _settle(self) -> PublishReport:
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
    """Ends with its update instead of with a round in which nothing differs."""

    def _settle(self) -> PublishReport:
        for ip_set in self._sets:
            for _ in range(20):
                read = self._read(self._sets)
                changes = self._compare(read.published).changes
                if ip_set not in changes:
                    break
                self._sleep(1.2)
                try:
                    self._ip_sets.update(ip_set, changes[ip_set], read.tokens[ip_set])
                    break
                except (Conflict, Throttled, Unavailable):
                    continue
        return PublishReport()


class RemembersTheList(Publish):
    """Reads the list once, for all its rounds."""

    _once: SetsCompared | None = None

    def _settle(self) -> PublishReport:
        self._once = None
        return super()._settle()

    def _compare(self, published: Mapping[IpSet, Addresses]) -> SetsCompared:
        if self._once is None:
            self._once = super()._compare(published)
        return still_different(self._once, published)


def still_different(old: SetsCompared, published: Mapping[IpSet, Addresses]) -> SetsCompared:
    """Returns the changes of an old list that have not been made."""
    changes = {s: networks for s, networks in old.changes.items() if s in published and networks != published[s]}
    return old._replace(changes=changes)
