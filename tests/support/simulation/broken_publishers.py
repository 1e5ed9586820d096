"""Publishers that break one step of the protocol each, for simulations that must notice."""

from collections.abc import Mapping

from chalicelib.core.addresses import Network
from chalicelib.core.ipsets import IpSet
from chalicelib.pipeline.publish import Publish
from chalicelib.ports import Conflict, Throttled, Unavailable
from chalicelib.reports import PublishReport


class SendsTheOldListAgain(Publish):
    """Under a fresh token, after a lost lock: what AWS's own solution does."""

    def _settle(self, report: PublishReport, failed: dict[IpSet, str]) -> None:
        published, _ = self._read(report, failed)
        changes = self._changes(published, report)
        for ip_set, addresses in changes.items():
            for _ in range(10):
                self._sleep(1.2)
                try:
                    self._ip_sets.update(ip_set, addresses, self._ip_sets.get(ip_set)[1])
                    break
                except (Conflict, Throttled):
                    continue


class ReadsTheListFirst(Publish):
    def _read(
        self, report: PublishReport, failed: dict[IpSet, str]
    ) -> tuple[dict[IpSet, frozenset[Network]], dict[IpSet, str]]:
        self._early = super()._changes(super()._read(report, failed)[0], report)
        return super()._read(report, failed)

    def _changes(
        self, published: Mapping[IpSet, frozenset[Network]], report: PublishReport
    ) -> dict[IpSet, frozenset[Network]]:
        return {s: networks for s, networks in self._early.items() if s in published and networks != published[s]}


class DoesNotLookAgain(Publish):
    """Ends with its update instead of with a round in which nothing differs."""

    def _settle(self, report: PublishReport, failed: dict[IpSet, str]) -> None:
        for ip_set in self._sets:
            for _ in range(20):
                published, tokens = self._read(report, failed)
                changes = self._changes(published, report)
                if ip_set not in changes:
                    break
                self._sleep(1.2)
                try:
                    self._ip_sets.update(ip_set, changes[ip_set], tokens[ip_set])
                    break
                except (Conflict, Throttled, Unavailable):
                    continue


class RemembersTheList(Publish):
    """Reads the list once, for all its rounds."""

    _once: dict[IpSet, frozenset[Network]] | None = None

    def _changes(
        self, published: Mapping[IpSet, frozenset[Network]], report: PublishReport
    ) -> dict[IpSet, frozenset[Network]]:
        if report.rounds == 1 or self._once is None:
            self._once = super()._changes(published, report)
        return {s: networks for s, networks in self._once.items() if s in published and networks != published[s]}
