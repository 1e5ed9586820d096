"""A stand-in for AWS WAF's IP sets, as strict as the real ones.

It answers those calls of boto3's ``wafv2`` client on IP sets that Sluice makes, and raises the real errors for a wrong
form or family, ``/0``, host bits, more than 10,000 addresses, a stale lock token, and more than one update, five
reads or five lists per second. Sources: the AWS WAF quotas and the API reference of UpdateIPSet.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_network
from itertools import count
from typing import Any
from uuid import UUID

from botocore.exceptions import ClientError

from chalicelib.core.addresses import Network
from chalicelib.core.ipsets import CAPACITY

UPDATES_PER_SECOND = 1
READS_PER_SECOND = 5
SDK_TRIES = 3
"""Times that boto3's client sends a throttled read; updates are configured to be sent once."""


@dataclass(slots=True)
class _Set:
    id: UUID
    name: str
    family: str
    description: str
    addresses: list[str]
    version: int = 1

    @property
    def token(self) -> str:
        """The lock token, which each update changes."""
        return str(UUID(int=self.id.int + (self.version << 32)))

    def summary(self) -> dict[str, str]:
        summary = {"Name": self.name, "Id": str(self.id), "LockToken": self.token}
        return {**summary, "Description": self.description} if self.description else summary


class WafStandIn:
    """A stand-in for the client's methods on IP sets: create, get, update, list and delete."""

    def __init__(self, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._clock = clock
        self._sleep = sleep
        self._sets: dict[str, _Set] = {}
        self._numbers = count(1)
        self._calls: dict[str, deque[float]] = {"update": deque(), "read": deque(), "list": deque()}
        self.updates: list[tuple[float, str, frozenset[str]]] = []
        """Time, name and new addresses of every update."""
        self.throttled = 0

    def create_ip_set(
        self, *, Name: str, Scope: str, IPAddressVersion: str, Addresses: Sequence[str], Description: str = ""
    ) -> dict[str, Any]:
        if any(ip_set.name == Name for ip_set in self._sets.values()):
            raise _error("CreateIPSet", "WAFDuplicateItemException", f"an IP set {Name} exists")
        _check("CreateIPSet", IPAddressVersion, Addresses)
        id = UUID(int=0x51 << 120 | next(self._numbers))
        created = self._sets[str(id)] = _Set(id, Name, IPAddressVersion, Description, list(Addresses))
        return {"Summary": created.summary()}

    def get_ip_set(self, *, Name: str, Scope: str, Id: str) -> dict[str, Any]:
        self._spend("GetIPSet", "read", READS_PER_SECOND)
        ip_set = self._find("GetIPSet", Name, Id)
        answer = {"Name": Name, "Id": Id, "IPAddressVersion": ip_set.family, "Addresses": list(ip_set.addresses)}
        if ip_set.description:
            answer["Description"] = ip_set.description
        return {"IPSet": answer, "LockToken": ip_set.token}

    def update_ip_set(
        self, *, Name: str, Scope: str, Id: str, Addresses: Sequence[str], LockToken: str, Description: str = ""
    ) -> dict[str, Any]:
        self._spend("UpdateIPSet", "update", UPDATES_PER_SECOND, tries=1)
        ip_set = self._find("UpdateIPSet", Name, Id)
        _check("UpdateIPSet", ip_set.family, Addresses)
        _check_token("UpdateIPSet", ip_set, LockToken)
        ip_set.addresses, ip_set.description = list(Addresses), Description
        ip_set.version += 1
        self.updates.append((self._clock(), Name, frozenset(Addresses)))
        return {"NextLockToken": ip_set.token}

    def list_ip_sets(self, *, Scope: str, Limit: int = 100, NextMarker: str = "0") -> dict[str, Any]:
        self._spend("ListIPSets", "list", READS_PER_SECOND)
        start = int(NextMarker)
        page = list(self._sets.values())[start : start + Limit]
        answer: dict[str, Any] = {"IPSets": [ip_set.summary() for ip_set in page]}
        return {**answer, "NextMarker": str(start + Limit)} if start + Limit < len(self._sets) else answer

    def delete_ip_set(self, *, Name: str, Scope: str, Id: str, LockToken: str) -> dict[str, Any]:
        _check_token("DeleteIPSet", self._find("DeleteIPSet", Name, Id), LockToken)
        del self._sets[Id]
        return {}

    def published(self) -> dict[str, list[str]]:
        """Returns the addresses of each set. Not an AWS call: it counts towards no quota."""
        return {ip_set.name: sorted(ip_set.addresses) for ip_set in self._sets.values()}

    def networks(self) -> set[Network]:
        return {ip_network(address) for ip_set in self._sets.values() for address in ip_set.addresses}

    def _find(self, action: str, name: str, id: str) -> _Set:
        ip_set = self._sets.get(id)
        if ip_set is None or ip_set.name != name:
            raise _error(action, "WAFNonexistentItemException", f"there is no IP set {name} {id}")
        return ip_set

    def _spend(self, action: str, kind: str, most: int, tries: int = SDK_TRIES) -> None:
        calls = self._calls[kind]
        for attempt in range(tries):
            now = self._clock()
            while calls and calls[0] <= now - 1:
                calls.popleft()
            if len(calls) < most:
                calls.append(now)
                return
            self.throttled += 1
            if attempt + 1 < tries:
                self._sleep(0.25 * 2**attempt)
        raise _error(action, "ThrottlingException", "rate exceeded")


def _check_token(action: str, ip_set: _Set, token: str) -> None:
    if token != ip_set.token:
        raise _error(action, "WAFOptimisticLockException", "the lock token is not the latest")


def _check(action: str, family: str, addresses: Sequence[str]) -> None:
    if len(addresses) > CAPACITY:
        raise _error(action, "WAFLimitsExceededException", f"{len(addresses)} addresses; at most {CAPACITY} fit")
    for text in addresses:
        if _family_of(text) != family:
            raise _error(action, "WAFInvalidParameterException", f"field: IP_ADDRESS, parameter: {text}")


@lru_cache(1 << 17)
def _family_of(text: str) -> str:
    """Returns the family of IP sets that accept an address; empty if none does."""
    try:
        network = ip_network(text)
    except ValueError:
        return ""
    is_accepted = network.prefixlen > 0 and text.partition("/")[2].isdecimal()
    return f"IPV{network.version}" if is_accepted else ""


def _error(action: str, code: str, message: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, action)
