"""Settings of event sources that Chalice cannot make: what happens to a change that cannot be handled, and filters.

Chalice's later deployments change the batch size and the batching window alone, so these settings last. The stack's
are the same, in ``.chalice/resources.yaml``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sluice.deploy.account import AwsAccount
from sluice.deploy.deployed import look_up_sources
from sluice.deploy.resource import Existing, Resource
from sluice.deploy.stage import Stage

Settings = Mapping[str, Any]

BUSY = ("ResourceInUseException", "InvalidParameterValueException")
"""Error codes of Lambda while the event source is being created or changed, and while a role that may send to the queue
is new."""

SETTLING_S = 180.0


def _filters(*patterns: Mapping[str, Any]) -> Settings:
    return {"Filters": [{"Pattern": json.dumps(pattern, separators=(",", ":"))} for pattern in patterns]}


def settings_of(stage: Stage) -> dict[str, Settings]:
    """Returns arguments of UpdateEventSourceMapping for each function whose event source has such settings.

    Ingest has none: a malformed line never fails its batch, so nothing has to be isolated.
    """
    queue = {"OnFailure": {"Destination": stage.queue_arn(stage.dead_letters)}}

    def key(**names: Any) -> dict[str, Any]:
        return {"dynamodb": {"Keys": {name: {"S": values} for name, values in names.items()}}}

    return {
        # Only new items: a change of the registry brings nothing to evaluate.
        "evaluate": {"FilterCriteria": _filters({"eventName": ["INSERT"]})},
        # Detections, guilty networks, and the heartbeat, at which it decides about waiting offenders; events and the
        # audit, which it announces. The filter excludes the blocks that it writes to the same stream, because they
        # would keep it busy. A failing batch is halved until the failing change is alone.
        "enforce": {
            "BisectBatchOnFunctionError": True,
            "MaximumRecordAgeInSeconds": 3600,
            "DestinationConfig": queue,
            "FilterCriteria": _filters(
                key(kind=["detection", {"prefix": "event"}, "audit"]), key(kind=["control"], id=["heartbeat", "guilty"])
            ),
        },
        # Each heartbeat starts a run, which reads everything every ten minutes, so old changes need no retries. No
        # batch is halved: a run that fails does so for what AWS WAF or DynamoDB answers, not for one of its changes.
        "publish": {
            "MaximumRecordAgeInSeconds": 600,
            "DestinationConfig": queue,
            "FilterCriteria": _filters(key(kind=[{"prefix": "block"}, "allow", "control"])),
        },
    }


@dataclass(frozen=True, slots=True)
class EventSource(Resource):
    """The event source of a function, ``name``, that Chalice has created."""

    kind = "event source"
    dependent = True

    settings: Settings

    def find(self, account: AwsAccount) -> Existing | None:
        for mapping in look_up_sources(self.stage, account).get(self.name, ()):
            wrong = [name for name, value in self.settings.items() if not _covers(mapping.get(name), value)]
            return Existing(True, [WORDS[name] for name in wrong], {"uuid": mapping["UUID"]})
        return None

    def change(self, account: AwsAccount, existing: Existing) -> None:
        update = account.client("lambda").update_event_source_mapping
        account.retry(update, BUSY, for_s=SETTLING_S, UUID=existing.facts["uuid"], **self.settings)


WORDS = {
    "BisectBatchOnFunctionError": "halving of a batch that fails",
    "MaximumRecordAgeInSeconds": "an age at which changes are given up",
    "DestinationConfig": "a queue for what is given up",
    "FilterCriteria": "a filter for the changes that it handles",
}
"""Each setting as a phrase of the plan."""


def _covers(existing: Any, desired: Any) -> bool:
    """Returns whether everything desired exists; AWS may add members, such as an empty destination for successes.

    >>> _covers({"OnFailure": {"Destination": "x"}, "OnSuccess": {}}, {"OnFailure": {"Destination": "x"}})
    True
    """
    if isinstance(desired, Mapping):
        return isinstance(existing, Mapping) and all(_covers(existing.get(k), v) for k, v in desired.items())
    return bool(existing == desired)


def configured_sources(stage: Stage) -> list[Resource]:
    return [EventSource(stage, name, settings) for name, settings in settings_of(stage).items()]
