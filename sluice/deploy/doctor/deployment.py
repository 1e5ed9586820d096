"""Checks that everything exists as it was set up and deployed."""

from collections.abc import Iterator
from dataclasses import replace

from chalicelib.config import ConfigError
from chalicelib.core.tokens import TokensError, load_tokens
from chalicelib.core.wording import plural
from chalicelib.edges.tokens import KEY
from sluice.deploy.account import missing_ok
from sluice.deploy.api_policy import admitted, allows_everyone, policy_of
from sluice.deploy.apply import survey
from sluice.deploy.deployed import READERS, apis_of, look_up_sources
from sluice.deploy.doctor.grants import allowed, allowed_somewhere, calls_of, in_words
from sluice.deploy.doctor.inspection import Finding, Inspection
from sluice.deploy.plan import StepAction, to_set_up
from sluice.deploy.policies import Policy, arns_of, deployed_functions, policies
from sluice.deploy.preflight import reservations
from sluice.deploy.resources import resources_of
from sluice.deploy.resources.api_access import description_of
from sluice.deploy.resources.api_throttle import is_throttled
from sluice.deploy.resources.cloudfront import LogConfig
from sluice.deploy.resources.event_sources import configured_sources
from sluice.deploy.resources.objects import Queue
from sluice.deploy.resources.streams import DeliveryRole, LogStream
from sluice.deploy.resources.tables import Table, stream_of
from sluice.deploy.resources.waf import IpSetResource, RuleGroup, ip_sets_of
from sluice.deploy.runtime import RECOMMENDED, outdated
from sluice.deploy.stack import look_up_stack
from sluice.deploy.stage import API, Refusal

NOTHING: Policy = {"Statement": []}
"""The policy of a function that the stage does not need."""

EXPIRES_SOON_S = 14 * 86400

STACKED = (LogStream, Table, Queue, IpSetResource, RuleGroup, DeliveryRole, LogConfig)
"""Kinds that a stack creates, under the names that setup would give them."""

RESPONSES = "FunctionResponseTypes"
"""Present if a function reports failures message by message."""


def drift(inspection: Inspection) -> Iterator[Finding]:
    resources = resources_of(inspection.stage, now=inspection.now, project=inspection.project)
    try:
        steps = to_set_up(survey(resources, inspection.account))
    except Refusal as exc:
        yield Finding("drift", str(exc), f"do as described, then run {inspection.setup}")
        return
    for step in steps:
        if step.action is not StepAction.KEEP:
            what = "is missing" if step.action is StepAction.CREATE else step.detail
            remedy = inspection.setup
            if step.action is StepAction.LEAVE:
                remedy += " --print cloudformation, cdk or terraform-site"
            elif step.action is StepAction.REFUSE:
                remedy = f"do as described, then run {inspection.setup}"
            yield Finding("drift", f"{step.resource.kind} {step.resource.name}: {what}", remedy)


def of_stack(inspection: Inspection) -> Iterator[Finding]:
    """Checks that what the stack created still exists: CloudFormation itself does not look.

    The rules in the rule group are compared, too.
    """
    stage, account = inspection.stage, inspection.account
    if not stage.choices.stack:
        return
    alone = replace(stage, choices=replace(stage.choices, stack=""))
    created = resources_of(alone, now=inspection.now, project=inspection.project)
    try:
        steps = to_set_up(survey([each for each in created if isinstance(each, STACKED)], account))
    except Refusal as exc:
        yield Finding("drift", str(exc), f"change the stack's parameters: {inspection.with_parameter('NAME=VALUE')}")
        return
    for step in steps:
        objects = step.resource.name in (stage.objects_queue, stage.objects_dead_letters)
        remedy = inspection.with_parameter("ObjectsBucket=NAME") if objects else inspection.drift_remedy
        if step.action is StepAction.CREATE:
            yield Finding("drift", f"{step.resource.kind} {step.resource.name}: is missing", remedy)
        elif step.action is not StepAction.KEEP and isinstance(step.resource, RuleGroup):
            yield Finding("drift", f"{step.resource.kind} {step.resource.name}: {step.detail}", remedy)


def deployed(inspection: Inspection) -> Iterator[Finding]:
    """Finds functions that are not deployed, or not with the code that all functions share."""
    missing = [name for name in deployed_functions(inspection.stage) if name not in inspection.functions]
    if missing:
        are = "is" if len(missing) == 1 else "are"
        yield Finding("functions", f"{', '.join(missing)} {are} not deployed", inspection.restore)
    if len({function["CodeSha256"] for function in inspection.functions.values()}) > 1:
        what = "the functions run different code, because a deployment was interrupted"
        yield Finding("functions", what, inspection.restore)


def api(inspection: Inspection) -> Iterator[Finding]:
    """Checks that there is one admin API, with a throttle, and who may call it. A stack determines the rest itself."""
    stage, account = inspection.stage, inspection.account
    if stage.choices.stack:
        stack = look_up_stack(account, stage.choices.stack)
        if stack is not None and "RestAPIId" in stack.outputs:
            yield from _access(inspection, stack.outputs["RestAPIId"])
        return
    if API not in inspection.functions:
        return
    used, *others = apis_of(stage, account) or [""]
    if not used:
        yield Finding("API", "the admin API does not exist: commands and the page reach nothing", inspection.deploy)
        return
    for other in others:
        what = f"API {other} invokes the functions as well as {used}, which is in use, and without its throttle"
        yield Finding("API", what, f"aws apigateway delete-rest-api --rest-api-id {other}")
    if not is_throttled(used, account):
        yield Finding("API", "the admin API has no throttle", inspection.deploy)
    yield from _access(inspection, used)


def _access(inspection: Inspection, api: str) -> Iterator[Finding]:
    """Compares the API's resource policy with the chosen networks."""
    choices = inspection.stage.choices
    removal = f"aws apigateway update-rest-api --rest-api-id {api} --patch-operations op=replace,path=/policy,value="
    name, remedy = "API_NETWORKS", inspection.deploy
    if choices.stack:
        name, remedy = (
            "ApiNetworks",
            f"{removal}; aws apigateway create-deployment --rest-api-id {api} --stage-name api",
        )
    try:
        chosen = frozenset(choices.api_networks)
    except ConfigError as exc:
        what = f"the admin API may reject all calls: {exc}"
        yield Finding("API", what, inspection.with_parameter("ApiNetworks=NETWORKS"))
        return
    policy: Policy | None = None
    with missing_ok("NotFoundException"):
        policy = policy_of(description_of(api, inspection.account))
    accepted = admitted(policy)
    if accepted is None and not chosen:
        what = f"the admin API has a resource policy of your own, and {name} is empty"
        yield Finding("API", what, "compare it with what you intend: Sluice keeps it", wrong=False)
    elif accepted is None or chosen != accepted:
        whom = f"from {', '.join(sorted(accepted))} alone" if accepted else "from everywhere"
        whom = "as a resource policy of your own has it" if accepted is None else whom
        setting = f"{name} is {', '.join(sorted(chosen))}" if chosen else f"{name} is empty"
        if choices.stack and chosen:
            # CloudFormation does not look at the policy, so only another value makes it set the policy.
            remedy = f"{inspection.with_parameter('ApiNetworks=')}, then the same with {','.join(sorted(chosen))}"
        yield Finding("API", f"the admin API accepts calls {whom}, but {setting}", remedy)
    if choices.settings.get("ADMIN_AUTH") == "iam" and allows_everyone(policy):
        what = "with ADMIN_AUTH=iam, the API's resource policy allows calls that callers' own policies do not"
        yield Finding(
            "API", what, inspection.deploy if accepted is not None else f"{removal}, then {inspection.deploy}"
        )


def _elsewhere_packaged(inspection: Inspection) -> bool:
    """Returns whether there is no checkout to compare with: a stack can be deployed from a published package."""
    return inspection.published or bool(inspection.stage.choices.stack and not inspection.project.config_file.exists())


def concurrency(inspection: Inspection) -> Iterator[Finding]:
    """Checks that the account has room for the reservations of the functions, and that they use it."""
    if _elsewhere_packaged(inspection):
        return
    reserved = reservations(inspection.stage, inspection.account, inspection.project)
    if not reserved.fit:
        if not inspection.stage.choices.stack:
            remedy = f"ask AWS for 1,000 concurrent executions, then: {inspection.deploy}"
            yield Finding("concurrency", reserved.note, remedy, wrong=False)
    elif reserved.needed and not reserved.own and inspection.functions:
        what = f"the functions reserve nothing, and the account has room for {reserved.needed} concurrent executions"
        stacked = inspection.stage.choices.stack
        remedy = inspection.with_parameter("ReserveConcurrency=yes") if stacked else inspection.deploy
        yield Finding("concurrency", what, remedy, wrong=False)


def throttled(inspection: Inspection) -> Iterator[Finding]:
    """Finds functions that Lambda delays or never runs, because no concurrent execution is left for them.

    A function with a reservation sometimes waits for its own executions, as intended.
    """
    client = inspection.account.client("lambda")
    for name, description in inspection.functions.items():
        function = description["FunctionName"]
        reserved = client.get_function_concurrency(FunctionName=function).get("ReservedConcurrentExecutions")
        if reserved == 0:  # what the console's button "Throttle" sets
            remedy = f"aws lambda delete-function-concurrency --function-name {function}"
            # CloudFormation does not see that it has been changed, and would leave it.
            remedy += "" if inspection.stage.choices.stack else f", then {inspection.deploy}"
            yield Finding("concurrency", f"{name} never runs: its reserved concurrency is 0", remedy)
        elif reserved is None:
            delayed = inspection.metric("AWS/Lambda", "Throttles", "Sum", FunctionName=function)
            if delayed:
                what = f"{name} was delayed {delayed:.0f} times: the account had no concurrent execution left"
                remedy = "ask AWS for more concurrent executions, or limit those of your other functions"
                yield Finding("concurrency", what, remedy)


def runtime(inspection: Inspection) -> Iterator[Finding]:
    """Compares runtime and architecture of the functions with the recommended and the configured ones."""
    runtimes = sorted({function["Runtime"] for function in inspection.functions.values()})
    old = [name for name in runtimes if outdated(name)]
    if old:
        what = f"the functions run on {', '.join(old)}, which AWS deprecates before {RECOMMENDED}"
        remedy = f"in a {RECOMMENDED} environment, run: {inspection.deploy}"
        if inspection.published:
            remedy = f"{inspection.deploy}, with the files of the newest release"
        yield Finding("runtime", what, remedy, wrong=False)
    if _elsewhere_packaged(inspection):
        return
    architecture = inspection.project.architecture
    others = sorted({each for f in inspection.functions.values() for each in f["Architectures"]} - {architecture})
    if others:
        what = f"the functions run on {', '.join(others)}, but {inspection.project.config_file} says {architecture}"
        yield Finding("runtime", what, inspection.deploy, wrong=False)


def settings(inspection: Inspection) -> Iterator[Finding]:
    """Checks that the functions run with the settings and the memory that setup has written."""
    if inspection.stage.choices.stack:
        yield from _packaged_settings(inspection)
        return
    stage = inspection.project.stage(inspection.stage.name) or {}
    written = stage.get("environment_variables", {})
    for name, function in inspection.functions.items():
        memory = stage.get("lambda_functions", {}).get(name, {}).get("lambda_memory_size")
        if memory and memory != function["MemorySize"]:
            what = f"{name} runs with {function['MemorySize']} MB instead of {memory}"
            yield Finding("settings", what, inspection.deploy)
        deployed = inspection.environment(name)
        wrong = sorted(key for key in written.keys() | deployed.keys() if written.get(key) != deployed.get(key))
        if wrong:
            yield Finding("settings", f"{name} runs with different settings: {', '.join(wrong)}", inspection.deploy)


def _packaged_settings(inspection: Inspection) -> Iterator[Finding]:
    """Checks that the functions of a stack have the settings, and the memory, that setup's choices need."""
    remembered, needed = inspection.stage.choices.packaged_settings, inspection.stage.choices.evaluator_mb
    memory = inspection.functions.get("evaluate", {}).get("MemorySize", needed)
    if memory < needed:
        what = f"evaluate runs with {memory} MB, and the rate that setup remembers needs {needed}"
        yield Finding("settings", what, inspection.with_parameter(f"EvaluateMemory={needed}"))
    for name in inspection.functions:
        deployed = inspection.environment(name)
        wrong = sorted(key for key, value in remembered.items() if deployed.get(key) != value)
        if wrong:
            what = f"{name} runs without settings that setup remembers: {', '.join(wrong)}"
            yield Finding("settings", what, inspection.repackage)


def permissions(inspection: Inspection) -> Iterator[Finding]:
    """Checks that each function's role allows what its policy names."""
    stage, account = inspection.stage, inspection.account
    ip_sets = [summary["ARN"] for summary in ip_sets_of(stage, account).values()]
    tally_stream = inspection.environment("evaluate").get("TALLY_STREAM_ARN", "")
    state_stream = inspection.environment("enforce").get("STATE_STREAM_ARN", "")
    needed = policies(arns_of(stage, ip_sets, tally_stream=tally_stream, state_stream=state_stream))
    for name in inspection.functions:
        present = _policies_of(inspection, name)
        calls = (each for each in calls_of(needed.get(name, NOTHING)) if not each.action.startswith(("logs:", "xray:")))
        missing = [call for call in calls if not allowed(call, present)]
        if missing:
            yield Finding("permissions", f"{name} may not call {in_words(missing)}", inspection.restore)


def _policies_of(inspection: Inspection, function: str) -> list[Policy]:
    """Returns the policies in the role of a deployed function."""
    account, role = inspection.account, inspection.functions[function]["Role"].rpartition("/")[2]
    with missing_ok("NoSuchEntity"):
        return [
            account.client("iam").get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
            for policy in account.list_all("iam", "list_role_policies", "PolicyNames", RoleName=role)
        ]
    return []


def source_settings(inspection: Inspection) -> Iterator[Finding]:
    """Checks that a change that cannot be handled is isolated, and that functions receive only what they handle."""
    for source in configured_sources(inspection.stage):
        existing = source.find(inspection.account) if source.name in inspection.functions else None
        if existing is not None and existing.differences:
            what = f"{source.name} lacks settings: {', '.join(existing.differences)}"
            yield Finding("event sources", what, inspection.restore)


def event_sources(inspection: Inspection) -> Iterator[Finding]:
    """Checks that the functions that read a stream or the queue do so without errors."""
    sources = look_up_sources(inspection.stage, inspection.account)
    streams = _streams(inspection)
    for name in READERS:
        if name not in inspection.functions:
            continue
        mappings = sources.get(name, [])
        if not mappings:
            yield Finding("event sources", f"{name} has no event source", inspection.restore)
        for mapping in mappings:
            read = mapping["EventSourceArn"]
            if streams.get(name, read) != read:
                what = f"{name} reads {read}, the stream of a former table: it sees nothing of what is written now"
                yield Finding("event sources", what, inspection.restore)
            parallel = mapping.get("ParallelizationFactor", 1)
            if name == "ingest" and parallel != 1:
                what = f"ingest reads {parallel} batches of a shard at once: one of them counts, the others are lost"
                remedy = f"aws lambda update-event-source-mapping --uuid {mapping['UUID']} --parallelization-factor 1"
                yield Finding("event sources", what, remedy)
            if name == "import_objects" and mapping.get("BatchSize", 1) > 1 and not mapping.get(RESPONSES):
                what = "import_objects gets several messages at once, and those that fail are lost"
                remedy = f"aws lambda update-event-source-mapping --uuid {mapping['UUID']} --batch-size 1"
                yield Finding("event sources", what, remedy)
            if mapping.get("State", "Enabled") not in ("Enabled", "Enabling", "Creating", "Updating"):
                remedy = f"aws lambda update-event-source-mapping --uuid {mapping['UUID']} --enabled"
                yield Finding("event sources", f"the event source of {name} is {mapping['State']}", remedy)
            result = mapping.get("LastProcessingResult") or "OK"
            if result not in ("OK", "No records processed"):
                yield Finding("event sources", f"{name}: {result}", f"read {inspection.log_group(name)}")


def _streams(inspection: Inspection) -> dict[str, str]:
    """Returns the ARN of the stream that each function should read, as far as its table exists."""
    stage, account = inspection.stage, inspection.account
    tables = {"evaluate": stage.tally_table, "enforce": stage.state_table, "publish": stage.state_table}
    streams = {name: stream_of(table, account) for name, table in tables.items()}
    return {name: stream for name, stream in streams.items() if stream}


def tokens(inspection: Inspection) -> Iterator[Finding]:
    """Checks that someone can call the admin API, and will be able to."""
    stage = inspection.stage
    with missing_ok("ParameterNotFound"):
        client = inspection.account.client("ssm")
        stored = client.get_parameter(Name=stage.tokens_parameter, WithDecryption=True)["Parameter"]["Value"]
        create = f"{stage.command('token create')} NAME"
        try:
            ends = [token.expires_at for token in load_tokens(stored)]
        except TokensError as exc:
            yield Finding("tokens", f"{stage.tokens_parameter} cannot be read: {exc}", "restore it, or run setup again")
            return
        last = None if None in ends else max(filter(None, ends), default=0)
        if last is not None and last <= inspection.now:
            yield Finding("tokens", "every token of the admin API has expired: commands and page are refused", create)
        elif last is not None and last <= inspection.now + EXPIRES_SOON_S:
            days = (last - inspection.now) // 86400
            what = f"every token of the admin API will have expired in {plural(days, 'day')}"
            yield Finding("tokens", what, create, wrong=False)


def tokens_key(inspection: Inspection) -> Iterator[Finding]:
    """Checks that the function that reads the tokens may decrypt them."""
    stage = inspection.stage
    if "authorize" not in inspection.functions:
        return
    named = [{"Key": "Name", "Values": [stage.tokens_parameter]}]
    for parameter in inspection.account.list_all("ssm", "describe_parameters", "Parameters", ParameterFilters=named):
        key = parameter.get("KeyId", KEY)
        if key.endswith(KEY) or allowed_somewhere("kms:Decrypt", _policies_of(inspection, "authorize")):
            continue
        what = f"{stage.tokens_parameter} is encrypted with {key}, which authorize has no permission to use"
        remedy = f"store the tokens under AWS's own key again: {stage.command('token create')} NAME"
        # The policy of the key itself may allow it.
        failed = inspection.metric("AWS/Lambda", "Errors", "Sum", FunctionName=stage.function("authorize"))
        yield Finding("tokens", what, remedy, wrong=bool(failed))
