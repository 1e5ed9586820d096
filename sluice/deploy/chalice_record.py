"""Chalice's record of a stage, ``.chalice/deployed/<stage>.json``, made from what exists in the account.

Chalice decides by this file alone whether an event source and the API exist. It writes the file after a deployment
that has succeeded as a whole, so that the file can be missing, or disagree with the account.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sluice.deploy.deployed import SCHEDULE, Deployed, schedule_name
from sluice.deploy.resources.chalice_config import Project
from sluice.deploy.stage import LOGS, Stage

Entry = dict[str, Any]

SCHEMA = {"schema_version": "2.0", "backend": "api"}
"""Version of the record's form, which Chalice 1.34 writes and reads."""


def record_file(project: Project, stage: str) -> Path:
    return project.chalice / "deployed" / f"{stage}.json"


def write_record(project: Project, stage: Stage, deployed: Deployed, sources: Mapping[str, str]) -> None:
    """Writes the record of what exists; removes the file if nothing does. Replaces the file atomically."""
    file = record_file(project, stage.name)
    entries = list(entries_of(stage, deployed, sources))
    if not entries:
        file.unlink(missing_ok=True)
        return
    file.parent.mkdir(exist_ok=True)
    temporary = file.with_suffix(".new")
    temporary.write_text(json.dumps({"resources": entries, **SCHEMA}, indent=2) + "\n")
    temporary.replace(file)


def recorded_names(project: Project, stage: str) -> set[str]:
    """Returns the names of what the file records; an empty set if it is missing or cannot be read."""
    try:
        record = json.loads(record_file(project, stage).read_text())
        return {entry["name"] for entry in record["resources"]}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def entries_of(stage: Stage, deployed: Deployed, sources: Mapping[str, str]) -> Iterator[Entry]:
    """Yields Chalice's entry for everything that exists.

    ``sources`` has the ARN that each function reads. An event source of another ARN is left out: Chalice would take it
    for the function's own.
    """
    for name, arn in deployed.roles.items():
        yield _entry(f"{name}_role", "iam_role", role_arn=arn, role_name=stage.function(name))
    for name, function in deployed.functions.items():
        yield _entry(name, "lambda_function", lambda_arn=function["FunctionArn"])
        group = f"{LOGS}{stage.function(name)}"
        yield _entry(f"{name}-log-group", "log_group", log_group_name=group)
    for name, source in sources.items():
        for mapping in deployed.event_sources.get(name, ()):
            if mapping["EventSourceArn"] == source:
                yield _event_source(name, mapping)
                break
    if deployed.scheduled:
        yield _entry(SCHEDULE, "cloudwatch_event", rule_name=schedule_name(stage))
    if deployed.apis:
        url = deployed.url(stage.location.region)
        yield _entry("rest_api", "rest_api", rest_api_id=deployed.apis[0], rest_api_url=url)


def _event_source(name: str, mapping: Mapping[str, Any]) -> Entry:
    source: str = mapping["EventSourceArn"]
    service = source.split(":")[2]
    last = source.rpartition(":")[2]
    what: Entry = {
        "kinesis": {"kinesis_arn": source, "stream": last.removeprefix("stream/")},
        "dynamodb": {"stream_arn": source},
        "sqs": {"queue_arn": source, "queue": last},
    }[service]
    identity = {"event_uuid": mapping["UUID"], "lambda_arn": mapping["FunctionArn"]}
    return _entry(f"{name}-{service}-event-source", f"{service}_event", **what, **identity)


def _entry(name: str, kind: str, **values: str) -> Entry:
    return {"name": name, "resource_type": kind, **values}
