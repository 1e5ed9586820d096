"""Each function's policy, compared with the calls that its handler makes over moto."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import boto3
import msgspec
import pytest
from botocore import handlers as botocore_handlers
from moto import mock_aws

import app
from chalicelib.bootstrap import Services, aws, compose, running_in
from chalicelib.config import read_config
from chalicelib.core.state.blocks import Block, History
from chalicelib.core.state.breakers import RuleBreaker, Waiting
from chalicelib.core.state.detections import Detection
from chalicelib.core.state.events import Events, Unannounced
from chalicelib.core.state.feeds import FeedNetworks
from chalicelib.core.state.kinds import RECORDS
from chalicelib.core.state.operators import Pause
from chalicelib.core.state.publishing import Heartbeat
from chalicelib.core.state.rule_sets import ACTIVE, StoredRules, version_id
from chalicelib.core.state.trends import Trend, TrendMark
from chalicelib.edges.https_feeds import HttpsFeeds
from chalicelib.pipeline.stored import State
from chalicelib.pipeline.tally_logs import log_name
from chalicelib.ports import Item, LogObject
from sluice.deploy.policies import STACK, arns_of, file_name, policies
from sluice.deploy.stage import Stage
from sluice.local.events import objects_event, schedule_event, tally_event
from sluice.local.gateway import Gateway
from tests.support.deploy.account import ROOT, World
from tests.support.deploy.events import kinesis_event, line, state_event

RULES = """
[[rule]]
name = "burst"
limit = 5
window = "5s"
block_for = "10m"
"""

BUCKET = "site-logs"
ACCOUNT = "arn:aws:{}:us-east-1:123456789012:{}"
TRANSACTION = {"Put": "dynamodb:PutItem", "Delete": "dynamodb:DeleteItem", "Update": "dynamodb:UpdateItem"}


@dataclass(frozen=True)
class Call:
    """An IAM action and the resource that it accessed."""

    action: str
    resource: str
    key: str = ""
    """Partition key in the state table."""


@dataclass
class Deployed:
    """A stage, the services of one container of its functions, and the recorded calls."""

    stage: Stage
    services: Services
    calls: list[Call]
    policies: Mapping[str, Any]
    token: str

    def restart(self) -> None:
        """Replaces the container with a cold one."""
        self.services = compose(self.services.config, self.services.world)

    def calls_of(self, function: str, event: Any) -> set[Call]:
        self.calls.clear()
        with running_in(self.services):
            getattr(app, function)(event, None)
        return set(self.calls)


def calls_in(service: str, operation: str, request: Mapping[str, Any]) -> Iterator[Call]:
    def table(name: str) -> str:
        return ACCOUNT.format("dynamodb", f"table/{name}")

    if operation == "BatchGetItem":
        for name, read in request["RequestItems"].items():
            yield from (Call("dynamodb:BatchGetItem", table(name), partition_of(key)) for key in read["Keys"])
    elif operation == "TransactWriteItems":
        for item in request["TransactItems"]:
            for verb, write in item.items():
                yield Call(
                    TRANSACTION[verb], table(write["TableName"]), partition_of(write.get("Item") or write["Key"])
                )
    elif operation == "Query":
        yield Call("dynamodb:Query", table(request["TableName"]), partition_of(request["ExpressionAttributeValues"]))
    elif service == "dynamodb":
        key = partition_of(request.get("Item") or request.get("Key") or {})
        yield Call(f"dynamodb:{operation}", table(request["TableName"]), key)
    elif operation == "ListIPSets":
        yield Call("wafv2:ListIPSets", "*")
    elif service == "wafv2":
        yield Call(f"wafv2:{operation}", ACCOUNT.format("wafv2", f"global/ipset/{request['Name']}/{request['Id']}"))
    elif service == "s3":
        yield Call(f"s3:{operation}", f"arn:aws:s3:::{request['Bucket']}/{request['Key']}")
    elif operation == "PutEvents":
        for entry in request["Entries"]:
            yield Call("events:PutEvents", ACCOUNT.format("events", f"event-bus/{entry['EventBusName']}"))
    elif service == "ssm":
        yield Call(f"ssm:{operation}", ACCOUNT.format("ssm", f"parameter{request['Name']}"))
    else:
        yield Call(f"{service}:{operation}", "?")


def partition_of(attributes: Mapping[str, Any]) -> str:
    """Returns the state table's partition key in an item, a key, or the values of a query; empty for other tables."""
    kind = attributes.get("kind") or attributes.get(":kind")
    return str(kind["S"]) if kind else ""


def keys_of(statement: Mapping[str, Any]) -> list[str]:
    """Returns the patterns of the partition keys that a statement is restricted to."""
    condition = statement.get("Condition", {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["*"]}})
    return list(condition["ForAllValues:StringLike"]["dynamodb:LeadingKeys"])


def allowed(policy: Mapping[str, Any], call: Call) -> bool:
    for statement in policy["Statement"]:
        resources = statement["Resource"]
        resources = resources if isinstance(resources, list) else [resources]
        within = any(fnmatchcase(call.resource, arn) for arn in resources)
        of_its_keys = any(fnmatchcase(call.key, key) for key in keys_of(statement))
        if call.action in statement["Action"] and within and of_its_keys:
            return True
    return False


def outside(policy: Mapping[str, Any], calls: Iterable[Call]) -> set[Call]:
    return {call for call in calls if not allowed(policy, call)}


def unused(policy: Mapping[str, Any], calls: Iterable[Call]) -> set[tuple[str, str, str]]:
    """Returns allowed actions that no call needs there, without those that Lambda takes on the function's behalf.

    A key that a kind may be spread over counts as used if its kind does.
    """
    own = {"dynamodb", "wafv2", "ssm", "events"}
    made = set(calls)
    found = set()
    for statement in policy["Statement"]:
        if statement["Resource"] == "*" or "/stream/" in statement["Resource"]:
            continue
        for action in statement["Action"]:
            if action.split(":")[0] not in own:
                continue
            only = {**statement, "Action": [action]}
            if not any(allowed({"Statement": [only]}, call) for call in made):
                found.add((action, str(statement["Resource"]), ""))
    for statement in policy["Statement"]:
        for key in keys_of(statement):
            if key != "*" and not key.endswith("#*"):
                names = [call.key.partition("#")[0] for call in made if call.action in statement["Action"]]
                if key not in names:
                    found.add((str(statement["Action"]), str(statement["Resource"]), key))
    return found


@pytest.fixture
def deployed(world: World) -> Iterator[Deployed]:
    world.account.client("s3").create_bucket(Bucket=BUCKET)
    stage = world.stage(buckets=(f"{BUCKET}/AWSLogs/",), settings={"EVENT_BUS": "default"})
    world.now = int(time.time())  # the first token has to be valid
    world.set_up(stage)
    written = world.project.stage("prod")
    assert written is not None
    calls: list[Call] = []

    def record(params: Mapping[str, Any], model: Any, **_: Any) -> None:
        calls.extend(calls_in(model.service_model.service_name, model.name, params))

    hook = ("before-parameter-build", record)
    botocore_handlers.BUILTIN_HANDLERS.append(hook)
    with mock_aws():
        config = read_config(written["environment_variables"])
        services = compose(config, aws(config))
        services = replace(services, world=replace(services.world, sleep=lambda _: None))
        botocore_handlers.BUILTIN_HANDLERS.remove(hook)
        rules = StoredRules(text=RULES, by="test", saved_at=0)
        services.world.state.put_over([Item(kind=rules.kind, id=ACTIVE, body=rules.to_json(), version=1)])
        yield Deployed(stage, services, calls, world.project.policies("prod"), world.tokens[0])


def stored(deployed: Deployed, kind: str) -> list[Item]:
    return list(deployed.services.world.state.query(kind))


def new_object(content: bytes, now: float) -> dict[str, Any]:
    """Stores an object, and returns the event about it."""
    etag = boto3.client("s3").put_object(Bucket=BUCKET, Key="AWSLogs/one.log", Body=content)["ETag"].strip('"')
    return objects_event([("one", LogObject(BUCKET, "AWSLogs/one.log", etag), now)])


def stop_and_resume(deployed: Deployed, detected: Item, now: int) -> set[Call]:
    """Makes a stopped rule's offender wait, and resumes the rule. Returns the calls of enforce."""
    state = State(deployed.services.world.state)
    earlier = Detection.from_json(detected.body)
    offenders = [msgspec.structs.replace(offender, network="203.0.113.9/32") for offender in earlier.offenders]
    detection = msgspec.structs.replace(earlier, id="later", offenders=tuple(offenders))
    terms = detection.terms
    state.overwrite(detection)
    hits = {f"{number:08x}": now for number in range(9)}
    breaker = RuleBreaker(rule=terms.name, limit=terms.limit, window_s=terms.window_s, stopped_at=now - 3600, hits=hits)
    state.overwrite(breaker)
    calls = deployed.calls_of(
        "enforce", state_event([item for item in stored(deployed, Detection.kind) if item.id == "later"])
    )
    assert stored(deployed, Waiting.kind)
    state.overwrite(msgspec.structs.replace(breaker, hits={}), Unannounced(failed=(0,)))
    deployed.restart()
    beat = Heartbeat(at=now)
    event = state_event([Item(kind=beat.kind, id=beat.id, body=beat.to_json(), version=1)])
    calls |= deployed.calls_of("enforce", event)
    assert not stored(deployed, Waiting.kind)
    return calls


def add_and_remove_feed(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> set[Call]:
    """Has a feed of the rules read, and then removed from them. Returns the calls of the sweeps."""
    monkeypatch.setattr(HttpsFeeds, "read", lambda *_: b"198.51.100.0/24\n")
    state, calls = deployed.services.world.state, set[Call]()
    before = stored(deployed, StoredRules.kind)
    for table in ('[feeds.bot]\nurl = "https://bots.example/"\nallow = true\n', ""):
        state.put_over([Item(kind=StoredRules.kind, id=ACTIVE, body=StoredRules(text=RULES + table).to_json())])
        deployed.restart()
        calls |= deployed.calls_of("sweep", schedule_event())
        assert len(stored(deployed, FeedNetworks.kind)) == bool(table)
    state.put_over(before)
    return calls


def exceed_a_quota(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> set[Call]:
    """Has a client exceed a quota, and its requests rolled up. Returns the calls of the sweeps."""
    monkeypatch.setattr("chalicelib.pipeline.quotas.EVERY_MS", 0)
    state, now = deployed.services.world.state, time.time()
    before = stored(deployed, StoredRules.kind)
    text = f'{RULES}\n[[rule]]\nname = "daily"\nlimit = 0\nwindow = "1d"\n'
    state.put_over([Item(kind=StoredRules.kind, id=ACTIVE, body=StoredRules(text=text).to_json(), version=5)])
    deployed.restart()
    calls = deployed.calls_of("sweep", schedule_event())
    deployed.calls_of("ingest", kinesis_event([line("192.0.2.9", now)], ts=now, first=900))
    calls |= deployed.calls_of("sweep", schedule_event())
    assert "daily" in {Detection.from_json(item.body).terms.name for item in stored(deployed, Detection.kind)}
    deployed.restart()
    calls |= deployed.calls_of("sweep", schedule_event())  # loads the roll-ups
    state.put_over(before)
    deployed.restart()
    return calls


def test_every_function_stays_within_its_policy(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chalicelib.pipeline.warning.NEARLY_FULL", 0.0)
    now = time.time()
    used: dict[str, set[Call]] = {}
    lines = [line("192.0.2.7", now + number / 100) for number in range(10)]
    used["ingest"] = deployed.calls_of("ingest", kinesis_event(lines, ts=now))
    used["ingest"] |= deployed.calls_of("ingest", kinesis_event(lines, ts=now, shard=1))
    state, logs = deployed.services.world.state, deployed.services.world.tally_logs
    # Cold containers that find invalid rules, and a log that has expired.
    logs.register("retired", (), (log_name("retired", 0),))
    for id, text in ((version_id(1), f"{RULES}\n[networks]\n"), (ACTIVE, "[[rule]]")):
        state.put_over([Item(kind=StoredRules.kind, id=id, body=StoredRules(text=text).to_json(), version=2)])
    deployed.restart()
    used["ingest"] |= deployed.calls_of("ingest", kinesis_event([*lines, *[b"no line"] * 200], ts=now, first=20))
    deployed.restart()
    used["import_objects"] = deployed.calls_of("import_objects", new_object(b"\n".join(lines), now))
    deployed.restart()
    used["evaluate"] = deployed.calls_of("evaluate", tally_event([("any", 0)]))
    detections = stored(deployed, Detection.kind)
    assert detections
    used["enforce"] = deployed.calls_of("enforce", state_event(detections))
    blocks = stored(deployed, Block.kind)
    assert [Block.from_json(block.body).network for block in blocks] == ["192.0.2.7/32"]
    used["publish"] = deployed.calls_of("publish", state_event(blocks))
    assert "wafv2:UpdateIPSet" in {call.action for call in used["publish"]}
    used["publish"] |= deployed.calls_of("publish", state_event(blocks))
    deployed.services.publish._free_at = 0.0  # as if AWS's pace allowed the next update
    used["publish"] |= deployed.calls_of("publish", state_event(blocks))
    over = Block(network="198.51.100.7/32", blocked_at=1, until=2)
    State(state).overwrite(over)
    State(state).overwrite(Pause(paused=True, at=1, until=2))
    for record in (
        Block(network="203.0.113.7/32", blocked_at=1, until=int(now) + 999),
        History(network="203.0.113.7/32"),
    ):
        # As version 0.2 stored it.
        state.put_over([Item(kind=record.kind, id=record.id, body=record.to_json(), key=record.kind)])
    State(state).overwrite(TrendMark(at=1))
    used["sweep"] = deployed.calls_of("sweep", schedule_event())
    assert stored(deployed, Trend.kind)
    assert [item.id for item in stored(deployed, History.kind)] == [
        *("192.0.2.7/32", "198.51.100.7/32", "203.0.113.7/32")
    ]
    used["sweep"] |= add_and_remove_feed(deployed, monkeypatch)
    used["sweep"] |= exceed_a_quota(deployed, monkeypatch)
    beat = Heartbeat(at=int(now))
    deployed.restart()
    for _ in range(2):  # which of the blocks are guilty is known from the second heartbeat on
        deployed.services.publish._free_at = 0.0
        event = state_event([Item(kind=beat.kind, id=beat.id, body=beat.to_json(), version=1)])
        used["publish"] |= deployed.calls_of("publish", event)
    used["enforce"] |= deployed.calls_of("enforce", state_event(stored(deployed, Events.kind)))
    used["enforce"] |= stop_and_resume(deployed, detections[0], int(now))
    for function, calls in used.items():
        assert calls, function
        assert outside(deployed.policies[function], calls) == set(), function
        assert unused(deployed.policies[function], calls) == set(), function


def test_the_admin_api_and_its_authorizer_stay_within_their_policies(deployed: Deployed) -> None:
    replies: list[str] = []
    used: dict[str, set[Call]] = {"api_handler": set(), "authorize": set()}

    class RecordingContainer:
        """A container that assigns the calls made in it to the authorizer or the API."""

        def __enter__(self) -> None:
            deployed.calls.clear()
            self._running = running_in(deployed.services)
            self._running.__enter__()

        def __exit__(self, *_: object) -> None:
            self._running.__exit__(None, None, None)
            used["authorize"].update(call for call in deployed.calls if call.action.startswith("ssm:"))
            used["api_handler"].update(call for call in deployed.calls if not call.action.startswith("ssm:"))

    gateway = Gateway(app.app, RecordingContainer)
    now = time.time()
    deployed.calls_of("ingest", kinesis_event([line("192.0.2.7", now)] * 10, ts=now))
    bearer = {"authorization": f"Bearer {deployed.token}", "content-type": "application/json"}
    bodies: dict[tuple[str, str], Any] = {
        ("PUT", "/v1/allowlist"): {"network": "192.0.2.8", "comment": "x"},
        ("DELETE", "/v1/allowlist?network=192.0.2.8"): None,
        ("POST", "/v1/blocks"): {"network": "192.0.2.9", "duration": "10m", "comment": "x"},
        ("DELETE", "/v1/blocks?network=192.0.2.9"): None,
        ("PUT", "/v1/rules"): {"text": RULES + "# again"},
        ("POST", "/v1/rules/plan"): {"text": RULES},
        ("POST", "/v1/pause"): {},
        ("POST", "/v1/resume"): {},
        ("POST", "/v1/breaker/reset"): {},
        ("GET", "/v1/clients?address=192.0.2.7"): None,
    }
    for path, methods in app.app.routes.items():
        for method in methods:
            if not any(key[0] == method and key[1].split("?")[0] == path for key in bodies):
                bodies[method, path.replace("{name}", "page.css")] = {} if method in ("POST", "PUT") else None
    state = deployed.services.world.state
    for kind in {of.kind for of in RECORDS}:
        state.put_over([Item(kind=kind, id="damaged", body=b"{")])
        target = f"/v1/unreadable?kind={kind}&id=damaged"
        bodies |= {("GET", target): None, ("DELETE", target): None}
        bodies["PUT", f"/v1/unreadable?{kind}"] = {"kind": kind, "id": "damaged", "body": "{"}
    state.put_over([Item(kind=Heartbeat.kind, id=Heartbeat.id, body=b"{")])
    bodies["DELETE", "/v1/unreadable?kind=control&id=heartbeat"] = None
    for (method, target), body in bodies.items():
        text = b"" if body is None else json.dumps(body).encode()
        path = target.partition("?")[0] if method == "PUT" else target
        headers = {**bearer, "idempotency-key": f"call-{len(replies)}"} if method == "POST" else bearer
        reply = gateway.answer(method, path, headers, text, "198.51.100.1")
        replies.append(f"{method} {target}: {reply.status}")
        assert reply.status < 500, (method, target, reply.body)
    assert sum(": 20" in reply for reply in replies) >= 15, replies
    for function, calls in used.items():
        assert calls, function
        assert outside(deployed.policies[function], calls) == set(), function
        assert unused(deployed.policies[function], calls) == set(), function


def test_a_call_outside_the_policy_is_detected(deployed: Deployed) -> None:
    policy = deployed.policies["publish"]
    table = deployed.stage.table_arn(deployed.stage.state_table)
    assert allowed(policy, Call("dynamodb:Query", table, "block"))
    assert allowed(policy, Call("dynamodb:Query", table, "block#07"))
    assert not allowed(policy, Call("dynamodb:Query", table, "blocked"))
    assert not allowed(policy, Call("dynamodb:Query", table, "audit"))
    for function, kind in (("ingest", "rule-set"), ("evaluate", "allow"), ("enforce", "allow"), ("sweep", "rule-set")):
        assert not allowed(deployed.policies[function], Call("dynamodb:PutItem", table, kind))
    assert not allowed(deployed.policies["api_handler"], Call("dynamodb:DeleteItem", table, "audit"))
    assert not allowed(policy, Call("dynamodb:DeleteItem", table, "block"))
    assert not allowed(policy, Call("dynamodb:Query", deployed.stage.table_arn("another"), "block"))
    assert not allowed(policy, Call("wafv2:UpdateIPSet", ACCOUNT.format("wafv2", "global/ipset/theirs/id")))


def test_only_what_aws_cannot_narrow_is_allowed_everywhere(deployed: Deployed) -> None:
    everywhere = {
        action
        for policy in deployed.policies.values()
        for statement in policy["Statement"]
        for action in statement["Action"]
        if statement["Resource"] == "*"
    }
    assert everywhere == {
        "dynamodb:ListStreams",
        "kinesis:ListStreams",
        "wafv2:ListIPSets",
        "xray:PutTelemetryRecords",
        "xray:PutTraceSegments",
    }


def test_both_forms_of_the_policies_allow_the_same_actions(world: World) -> None:
    stage = world.stage(buckets=("logs/",), settings={"EVENT_BUS": "default"})
    arns = arns_of(stage, ["arn:v4", "arn:v6"], tally_stream="arn:tallies", state_stream="arn:state")
    concrete = policies(arns)
    for function, policy in policies(STACK).items():
        actions = {action for statement in policy["Statement"] for action in statement["Action"]}
        other = {action for statement in concrete[function]["Statement"] for action in statement["Action"]}
        assert actions - other <= {"sqs:SendMessage"}
        assert other <= actions


def test_the_committed_policies_are_those_of_the_code() -> None:
    for function, policy in policies(STACK).items():
        committed = json.loads((ROOT / ".chalice" / file_name(function)).read_text())
        assert committed == policy, f"run python -m sluice.deploy.policies ({function})"


def test_every_permission_is_justified_in_the_docs() -> None:
    text = (ROOT / "docs" / "operate" / "permissions.md").read_text()
    for function, policy in policies(STACK).items():
        for statement in policy["Statement"]:
            for action in statement["Action"]:
                assert f"`{action}`" in text, f"permissions.md does not say why {function} needs {action}"


def test_a_function_writes_to_its_own_log_group_and_to_no_other_stages(world: World) -> None:
    groups = {}
    for name in ("prod", "prod-eu"):
        arns = arns_of(replace(world.stage(), name=name), [], tally_stream="arn:t", state_stream="arn:s")
        for function, policy in policies(arns).items():
            (statement,) = [each for each in policy["Statement"] if "logs:PutLogEvents" in each["Action"]]
            groups[name, function] = statement["Resource"]
    assert groups["prod", "ingest"] == ACCOUNT.format("logs", "log-group:/aws/lambda/sluice-prod-ingest:*")
    # Chalice names the function of the API like the stage.
    assert groups["prod", "api_handler"] == ACCOUNT.format("logs", "log-group:/aws/lambda/sluice-prod:*")
    for one, pattern in groups.items():
        assert [other for other, group in groups.items() if fnmatchcase(group.replace("*", "stream"), pattern)] == [one]
