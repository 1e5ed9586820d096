"""Which policies of the admin API are read as Sluice's own."""

import json
from typing import Any

import pytest

from sluice.deploy.api_policy import INVOKE, admitted, api_policy, policy_of

ARN = "arn:aws:execute-api:us-east-1:123456789012:a1b2c3d4e5/*"


def denying(**changes: Any) -> dict[str, Any]:
    statements = api_policy(["198.51.100.0/24"])["Statement"]
    return {"Version": "2012-10-17", "Statement": [statements[0], {**statements[1], **changes}]}


def described(policy: dict[str, Any]) -> dict[str, Any]:
    """Returns an API with the policy, as API Gateway describes it."""
    statements = [{**each, "Resource": ARN, "Principal": {"AWS": "*"}} for each in policy["Statement"]]
    for each in statements:
        if (named := each.get("Condition", {}).get("NotIpAddress", {}).get("aws:SourceIp")) and len(named) == 1:
            each["Condition"] = {"NotIpAddress": {"aws:SourceIp": named[0]}}
    return {"policy": json.dumps({**policy, "Statement": statements}).replace('"', '\\"')}


@pytest.mark.parametrize("networks", [[], ["198.51.100.0/24"], ["198.51.100.0/24", "2001:db8::/48"]])
def test_the_networks_are_read_back_from_what_api_gateway_makes_of_the_policy(networks: list[str]) -> None:
    policy = policy_of(described(api_policy(networks)))
    assert admitted(policy) == frozenset(networks)
    assert policy is not None
    policy["Statement"].reverse()
    assert admitted(policy) == frozenset(networks)


@pytest.mark.parametrize("api", [{}, {"policy": ""}, {"policy": "{}"}])
def test_an_api_without_a_policy_accepts_calls_from_everywhere(api: dict[str, Any]) -> None:
    assert policy_of(api) is None
    assert admitted(None) == frozenset()


@pytest.mark.parametrize(
    "policy",
    [
        pytest.param({"Statement": {"Effect": "Deny", **INVOKE}}, id="a single statement"),
        pytest.param(denying(Resource="execute-api:/*/GET/v1/rules"), id="one route alone"),
        pytest.param(denying(Condition={"IpAddress": {"aws:SourceIp": "198.51.100.0/24"}}), id="all but a network"),
        pytest.param(denying(Condition={"NotIpAddress": {"aws:VpcSourceIp": "10.0.0.0/8"}}), id="another key"),
        pytest.param(denying(Principal={"AWS": "123456789012"}), id="one caller"),
        pytest.param({"Statement": [{"Effect": "Allow", **INVOKE, "Principal": {"AWS": "1"}}]}, id="another account"),
        pytest.param({"Statement": api_policy(["8.8.8.8"])["Statement"][1:]}, id="nothing allowed"),
    ],
)
def test_another_policy_is_never_taken_for_networks(policy: dict[str, Any]) -> None:
    assert admitted(policy) is None


def test_keys_of_conditions_are_compared_without_their_case() -> None:
    assert admitted(denying(Condition={"NotIpAddress": {"aws:sourceIp": "8.8.8.8"}})) == frozenset({"8.8.8.8"})
