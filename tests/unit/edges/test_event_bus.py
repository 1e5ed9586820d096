"""Announcements as events, received by rules of EventBridge as moto applies them."""

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from chalicelib.core.announcements import Announcement, of_event
from chalicelib.core.state.events import Event
from chalicelib.edges.event_bus import ENTRIES_PER_CALL, EventBus
from chalicelib.ports import Unavailable
from tests.support.state import CLIENT, NOW

pytestmark = pytest.mark.slow  # moto is imported and started

BLOCKED = Event(outcome="blocked", network=CLIENT, rule="burst", until=NOW + 600, offence=1)


def announcements(number: int) -> list[Announcement]:
    return [of_event(BLOCKED, f"{NOW}000-ab/{each}", NOW * 1000, "sluice-prod") for each in range(number)]


@pytest.fixture
def received() -> Iterator[Any]:
    """A function that returns the events in a log group to which a rule sends those of the stage."""
    with mock_aws():
        events, logs = (boto3.client(name, region_name="us-east-1") for name in ("events", "logs"))
        logs.create_log_group(logGroupName="/aws/events/blocked")
        pattern = {"source": ["sluice"], "detail-type": ["Client Blocked"], "detail": {"stage": ["sluice-prod"]}}
        events.put_rule(Name="blocked", EventPattern=json.dumps(pattern))
        arn = "arn:aws:logs:us-east-1:123456789012:log-group:/aws/events/blocked"
        events.put_targets(Rule="blocked", Targets=[{"Id": "log", "Arn": arn}])
        yield lambda: [
            json.loads(each["message"]) for each in logs.filter_log_events(logGroupName="/aws/events/blocked")["events"]
        ]


def test_a_rule_of_eventbridge_receives_each_announcement(received: Any) -> None:
    bus = EventBus(lambda: boto3.client("events", region_name="us-east-1"), "default")
    sent = announcements(2 * ENTRIES_PER_CALL + 3)
    bus.send(sent)
    events = received()
    assert [each["detail"]["id"] for each in events] == [each.id for each in sent]
    assert (events[0]["source"], events[0]["detail-type"]) == ("sluice", "Client Blocked")
    assert events[0]["time"] == sent[0].at
    assert events[0]["detail"] == {
        "version": 1,
        "id": f"{NOW}000-ab/0",
        "stage": "sluice-prod",
        "type": "Client Blocked",
        "at": "2025-10-09T08:53:20Z",
        "title": f"sluice-prod: {CLIENT} blocked",
        "text": "1 further offence against burst. Until 2025-10-09T09:03:20Z.",
        "network": CLIENT,
        "family": 4,
        "rule": "burst",
        "outcome": "blocked",
        "response": "block",
        "offence": 1,
        "number": 1,
        "until": "2025-10-09T09:03:20Z",
    }


class Rejecting:
    """A client for a bus that accepts the first entry of each call only."""

    def put_events(self, Entries: list[Any]) -> dict[str, Any]:  # noqa: N803 - as boto3 calls it
        rejected = [{"ErrorCode": "ThrottlingException", "ErrorMessage": "slow down"} for _ in Entries[1:]]
        return {"FailedEntryCount": len(rejected), "Entries": [{"EventId": "1"}, *rejected]}


def test_an_event_that_is_not_accepted_is_no_success() -> None:
    with pytest.raises(Unavailable, match="send events to ops: ThrottlingException"):
        EventBus(Rejecting, "ops").send(announcements(2))


def test_a_bus_that_does_not_answer_is_no_success() -> None:
    with mock_aws(), pytest.raises(Unavailable, match="send events"):
        EventBus(lambda: boto3.client("events", region_name="us-east-1"), "arn:aws:nonsense").send(announcements(1))
