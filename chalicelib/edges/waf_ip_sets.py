"""``IpSets`` in AWS WAF v2. Addresses are compared as networks because AWS may spell IPv6 differently.

An update without a description clears it. A token is therefore WAF's lock token and, if
there is one, a space and the description."""

from typing import TYPE_CHECKING, Literal

from chalicelib.core.addresses import Network, parse_network
from chalicelib.core.ipsets import IpSet
from chalicelib.edges.errors import translated

if TYPE_CHECKING:
    from mypy_boto3_wafv2 import WAFV2Client

WafScope = Literal["CLOUDFRONT", "REGIONAL"]


class WafIpSets:
    def __init__(self, client: "WAFV2Client", scope: WafScope) -> None:
        """For scope CLOUDFRONT the client's region must be us-east-1."""
        self._client = client
        self._scope = scope

    def get(self, ip_set: IpSet) -> tuple[frozenset[Network], str]:
        with translated(f"GetIPSet {ip_set.name}"):
            answer = self._client.get_ip_set(Name=ip_set.name, Scope=self._scope, Id=ip_set.id)
        description = answer["IPSet"].get("Description", "")
        token = answer["LockToken"] + (f" {description}" if description else "")
        return frozenset(map(parse_network, answer["IPSet"]["Addresses"])), token

    def update(self, ip_set: IpSet, addresses: frozenset[Network], token: str) -> None:
        lock_token, _, description = token.partition(" ")
        with translated(f"UpdateIPSet {ip_set.name}"):
            self._client.update_ip_set(
                Name=ip_set.name,
                Scope=self._scope,
                Id=ip_set.id,
                Addresses=sorted(map(str, addresses)),
                LockToken=lock_token,
                # WAF rejects an empty description.
                **({"Description": description} if description else {}),
            )
