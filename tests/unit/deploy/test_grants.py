"""The calls that the policies of a function allow, in every form in which IAM accepts a policy."""

from typing import Any

import pytest

from sluice.deploy.doctor.grants import Grant, allowed, allowed_somewhere, calls_of

PUT = Grant("dynamodb:PutItem", "arn:aws:dynamodb:us-east-1:1:table/sluice-prod-state", "block#*")


def statement(**changes: Any) -> dict[str, Any]:
    given = {"Effect": "Allow", "Action": [PUT.action], "Resource": PUT.resource, **changes}
    return {name: value for name, value in given.items() if value is not None}


def restricted(*keys: str) -> dict[str, Any]:
    return {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": list(keys)}}


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ([statement()], True),
        (statement(), True),
        (statement(Action="dynamodb:PutItem"), True),
        (statement(Action="DynamoDB:Put*", Resource="*"), True),
        (statement(Action="dynamodb:GetItem"), False),
        (statement(Resource=f"{PUT.resource}2"), False),
        (statement(Resource=None), False),
        (statement(Action=None, NotAction=["iam:*"]), True),
        (statement(Action=None, NotAction="dynamodb:*"), False),
        (statement(Resource=None, NotResource="arn:aws:s3:::*"), True),
        (statement(Resource=None, NotResource="*state"), False),
        (statement(Condition=restricted("allow", "block", "block#*")), True),
        (statement(Condition=restricted("allow", "block")), False),
        (statement(Condition={"Bool": {"aws:SecureTransport": "true"}}), True),
        ([statement(), statement(Effect="Deny", Action="*", Resource="*")], False),
        ([statement(), statement(Effect="Deny", Condition={"Bool": {"aws:SecureTransport": "false"}})], True),
        ([], False),
    ],
)
def test_a_call_is_allowed_as_iam_decides(statements: Any, *, expected: bool) -> None:
    assert allowed(PUT, [{"Version": "2012-10-17", "Statement": statements}]) is expected


def test_a_call_on_every_key_needs_a_statement_without_restriction() -> None:
    call = Grant(PUT.action, PUT.resource)
    assert not allowed(call, [{"Statement": statement(Condition=restricted("*"))}])


def test_a_policy_names_a_call_for_each_action_resource_and_key() -> None:
    policy = {"Statement": statement(Action=["a:B", "a:C"], Resource=["x", "y"], Condition=restricted("k", "l"))}
    assert len(set(calls_of(policy))) == 8
    assert list(calls_of({"Statement": statement(Action=None, NotAction="a:B")})) == []


def test_an_action_is_allowed_somewhere_whatever_its_resource() -> None:
    policies = [{"Statement": statement(Action="kms:*", Resource="arn:aws:kms:us-east-1:1:key/k")}]
    assert allowed_somewhere("kms:Decrypt", policies)
    assert not allowed_somewhere("kms:Decrypt", [{"Statement": statement(Effect="Deny", Action="kms:*")}])
