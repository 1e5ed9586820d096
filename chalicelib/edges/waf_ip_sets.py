"""``IpSets`` in AWS WAF v2. Addresses are compared as networks because AWS may spell IPv6 differently.

An update without a description would clear it, so a token is WAF's lock token followed, if there is a description, by a
space and the description."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Literal

from chalicelib.core.addresses import Network, parse_network
from chalicelib.core.ipsets import IpSet
from chalicelib.edges.errors import translated

if TYPE_CHECKING:
    from mypy_boto3_wafv2 import WAFV2Client

WafScope = Literal["CLOUDFRONT", "REGIONAL"]

SETS_PER_PAGE = 100
"""Most IP sets that ListIPSets returns at once."""


class WafIpSets:
    def __init__(self, client: "WAFV2Client", scope: WafScope) -> None:
        """For scope CLOUDFRONT the client's region must be us-east-1."""
        self._client = client
        self._scope = scope

    def get(self, ip_set: IpSet) -> tuple[frozenset[Network], str]:
        with translated(f"GetIPSet {ip_set.name}"):
            answer = self._client.get_ip_set(Name=ip_set.name, Scope=self._scope, Id=ip_set.id)
        token = _token(answer["LockToken"], answer["IPSet"].get("Description", ""))
        return frozenset(map(parse_network, answer["IPSet"]["Addresses"])), token

    def tokens(self, sets: Collection[IpSet]) -> Mapping[IpSet, str]:
        by_id = {ip_set.id: ip_set for ip_set in sets}
        tokens: dict[IpSet, str] = {}
        page: dict[str, Any] = {"Scope": self._scope, "Limit": SETS_PER_PAGE}
        while True:
            with translated("ListIPSets"):
                answer = self._client.list_ip_sets(**page)
            for summary in answer["IPSets"]:
                if (ip_set := by_id.get(summary["Id"])) is not None:
                    tokens[ip_set] = _token(summary["LockToken"], summary.get("Description", ""))
            # AWS may give a marker with the last page too; an empty page has none after it.
            if len(tokens) == len(by_id) or not answer["IPSets"] or "NextMarker" not in answer:
                return tokens
            page["NextMarker"] = answer["NextMarker"]

    def update(self, ip_set: IpSet, addresses: frozenset[Network], token: str) -> str:
        lock_token, _, description = token.partition(" ")
        with translated(f"UpdateIPSet {ip_set.name}"):
            answer = self._client.update_ip_set(
                Name=ip_set.name,
                Scope=self._scope,
                Id=ip_set.id,
                Addresses=sorted(map(str, addresses)),
                LockToken=lock_token,
                # WAF rejects an empty description.
                **({"Description": description} if description else {}),
            )
        return _token(answer["NextLockToken"], description)


def _token(lock_token: str, description: str) -> str:
    return f"{lock_token} {description}" if description else lock_token
