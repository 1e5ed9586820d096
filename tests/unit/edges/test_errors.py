"""AWS's errors and the ports' errors that replace them."""

import socket
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.stub import Stubber

from chalicelib.core.ipsets import IpSet
from chalicelib.edges.batch_get import FIRST_WAIT_S, LONGEST_WAIT_S, READ_TRIES
from chalicelib.edges.state_table import StateTable
from chalicelib.edges.tally_table import TallyTable
from chalicelib.edges.waf_ip_sets import WafIpSets
from chalicelib.ports import Conflict, Item, LogItem, Put, Throttled, Unavailable
from tests.support.tables import CREDENTIALS, dynamodb_client

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

ITEM = LogItem(body=b"", last_sequence=1, written_ms=1)
SET = IpSet("sluice-v4", "51000000-0000-0000-0000-000000000001", 4)


@pytest.fixture
def client() -> "Iterator[DynamoDBClient]":
    with closing(dynamodb_client()) as client:
        yield client


def refused(client: "DynamoDBClient", operation: str, code: str, message: str = "so it is", **fields: Any) -> Stubber:
    stubber = Stubber(client)
    stubber.add_client_error(operation, code, message, http_status_code=400, modeled_fields=fields or None)
    return stubber


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("ConditionalCheckFailedException", Conflict),
        ("TransactionConflictException", Conflict),
        ("ThrottlingException", Throttled),
        ("ProvisionedThroughputExceededException", Throttled),
        ("RequestLimitExceeded", Throttled),
        ("ResourceNotFoundException", Unavailable),
        ("AccessDeniedException", Unavailable),
        ("InternalServerError", Unavailable),
        ("ValidationException", Unavailable),
    ],
)
def test_a_refused_append_is(client: "DynamoDBClient", code: str, error: type[Exception]) -> None:
    with refused(client, "put_item", code), pytest.raises(Exception, match=f"append to log@1 at 7: {code}") as raised:
        TallyTable(client, "tally").append("log@1", 7, [ITEM])
    assert type(raised.value) is error


def test_a_refusal_carries_the_message_of_aws(client: "DynamoDBClient") -> None:
    said = "User: sluice-ingest is not authorized to perform: dynamodb:UpdateItem"
    with refused(client, "update_item", "AccessDeniedException", said), pytest.raises(Unavailable, match=said):
        TallyTable(client, "tally").register("shard", (), ("shard@1",))


@pytest.mark.parametrize(
    ("reasons", "error"),
    [
        pytest.param(["None", "ConditionalCheckFailed"], Conflict, id="a condition"),
        pytest.param(["TransactionConflict", "None"], Conflict, id="another transaction"),
        pytest.param(["ThrottlingError", "ConditionalCheckFailed"], Conflict, id="a condition, and throttling"),
        pytest.param(["None", "ThrottlingError"], Throttled, id="throttling"),
        pytest.param(["ProvisionedThroughputExceeded", "None"], Throttled, id="throughput"),
        pytest.param(["None", "ValidationError"], Unavailable, id="an item that is too large"),
        pytest.param(["ItemCollectionSizeLimitExceeded", "None"], Unavailable, id="a full collection"),
        pytest.param(["None", "None"], Unavailable, id="nothing it names"),
    ],
)
def test_a_cancelled_transaction_is_classified_by_its_reasons(
    client: "DynamoDBClient", reasons: list[str], error: type[Exception]
) -> None:
    cancelled = refused(
        client,
        "transact_write_items",
        "TransactionCanceledException",
        CancellationReasons=[{"Code": reason} for reason in reasons],
    )
    writes = [Put(Item(kind="block", id=id, body=b"{}")) for id in "ab"]
    with cancelled, pytest.raises(Exception, match="write block: TransactionCanceledException") as raised:
        StateTable(client, "state").write(writes)
    assert type(raised.value) is error


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("WAFOptimisticLockException", Conflict),
        ("ThrottlingException", Throttled),
        ("WAFInternalErrorException", Unavailable),
        ("WAFNonexistentItemException", Unavailable),
        ("AccessDeniedException", Unavailable),
    ],
)
def test_a_refused_update_of_an_ip_set_is(code: str, error: type[Exception]) -> None:
    with closing(boto3.client("wafv2", **CREDENTIALS)) as client:
        stubber = Stubber(client)
        stubber.add_client_error("update_ip_set", code)
        with stubber, pytest.raises(Exception, match=f"UpdateIPSet sluice-v4: {code}") as raised:
            WafIpSets(client, "CLOUDFRONT").update(SET, frozenset(), SET.id)
    assert type(raised.value) is error


def test_keys_that_stay_unprocessed_are_waited_for_ever_longer_and_then_make_a_read_unavailable(
    client: "DynamoDBClient",
) -> None:
    waits: list[float] = []
    keys = {"tally": {"Keys": [{"log": {"S": "log@1"}, "offset": {"N": "0"}}], "ConsistentRead": True}}
    with Stubber(client) as stubber:
        for _ in range(READ_TRIES):
            stubber.add_response("batch_get_item", {"Responses": {}, "UnprocessedKeys": keys})
        with pytest.raises(Unavailable, match="keys were left unprocessed 10 times"):
            TallyTable(client, "tally", waits.append).read([("log@1", 0)])
        stubber.assert_no_pending_responses()
    assert waits == sorted(waits)
    assert (waits[0], waits[-1], len(waits)) == (FIRST_WAIT_S, LONGEST_WAIT_S, READ_TRIES)


def test_only_unprocessed_keys_are_asked_for_again(client: "DynamoDBClient") -> None:
    first, second = ({"kind": {"S": "allow"}, "id": {"S": id}} for id in "ab")
    stored = {"body": {"S": "{}"}, "version": {"N": "1"}}
    rest = {"state": {"Keys": [second], "ConsistentRead": True}}
    with Stubber(client) as stubber:
        stubber.add_response("batch_get_item", {"Responses": {"state": [first | stored]}, "UnprocessedKeys": rest})
        stubber.add_response("batch_get_item", {"Responses": {"state": [second | stored]}}, {"RequestItems": rest})
        assert set(StateTable(client, "state").get_many("allow", ["a", "b"])) == {"a", "b"}


def server(accepts: bool) -> tuple[socket.socket, str]:
    """Returns a server that never answers, or a port on which no program listens."""
    listening = socket.create_server(("127.0.0.1", 0))
    endpoint = f"http://127.0.0.1:{listening.getsockname()[1]}"
    if not accepts:
        listening.close()
    return listening, endpoint


@pytest.mark.slow
@pytest.mark.parametrize("accepts", [False, True], ids=["refuses connections", "never answers"])
def test_a_service_is_unavailable_that(accepts: bool) -> None:
    listening, endpoint = server(accepts)
    once = Config(retries={"total_max_attempts": 1}, connect_timeout=1, read_timeout=0.05)
    with (
        closing(listening),
        closing(boto3.client("dynamodb", endpoint_url=endpoint, config=once, **CREDENTIALS)) as client,
    ):
        logs, state = TallyTable(client, "tally"), StateTable(client, "state")
        for call in (
            lambda: logs.append("log@1", 0, [ITEM]),
            lambda: logs.append("log@1", 0, [ITEM, ITEM]),
            lambda: logs.read([]),
            lambda: logs.last("log@1"),
            lambda: logs.latest("log@1", 0, 0),
            logs.position,
            lambda: logs.store_position({"log@1": 1}),
            lambda: logs.register("shard", (), ("shard@1",)),
            lambda: state.get("block", "a"),
            lambda: state.get_many("block", ["a"]),
            lambda: list(state.query("block")),
            lambda: state.put_over([Item(kind="block", id="a", body=b"{}")]),
            lambda: state.write([Put(Item(kind="block", id="a", body=b"{}"))]),
        ):
            with pytest.raises(Unavailable, match=endpoint):
                call()
