"""Checks that log lines arrive completely, in time, and in the expected form."""

from collections.abc import Iterator

from chalicelib.core.decisions import Outcome
from chalicelib.core.durations import DAY_S
from chalicelib.core.tally import LONGEST_RETENTION_S
from chalicelib.core.wording import plural
from sluice.deploy.account import missing_ok
from sluice.deploy.doctor.inspection import METRIC_PERIOD_S, Finding, Inspection

BEHIND_MS = 60_000
RETRIED_MS = 300_000
"""Lag of the readers of the state table above which more than a batch that is repeated and divided is late."""
MALFORMED_SHARE = 0.05
LATE_SHARE = 0.05
NOTIFIED_S = DAY_S
"""Time within which a bucket with logs usually gets an object."""
WAITING_S = 1800
"""Age of the oldest notification, in seconds, above which imports are late: one has failed, or there are too many."""


def records(inspection: Inspection) -> Iterator[Finding]:
    choices, stream = inspection.stage.choices, inspection.stage.log_stream
    shards = choices.shards
    if choices.live and not inspection.metric("AWS/Kinesis", "IncomingRecords", "Sum", StreamName=stream):
        what = f"nothing has arrived in {stream} for {METRIC_PERIOD_S // 60} minutes"
        waf = inspection.change("--source waf --web-acl NAME", "WafLogsFrom=ARN")
        remedy = f"count a log with requests: {inspection.setup} --distribution ID, or --log-group NAME; or {waf}"
        if choices.distributions or choices.web_acls or choices.log_groups or choices.load_balancers:
            remedy = f"send requests to the site, and run this again five minutes later; if it is used, {remedy}"
        yield Finding("records", what, remedy)
    rejected = inspection.metric("AWS/Kinesis", "WriteProvisionedThroughputExceeded", "Sum", StreamName=stream)
    if rejected:
        double = inspection.change(f"--shards {2 * shards}", f"Shards={2 * shards}")
        remedy = double if shards else "wait: an on-demand stream adds shards itself"
        yield Finding("records", f"the stream rejected {rejected:.0f} records, whose lines may be lost", remedy)


def readers(inspection: Inspection) -> Iterator[Finding]:
    """Checks that every shard of the log stream can be read at the same time."""
    shards = _open_shards(inspection)
    if shards is None or "ingest" not in inspection.functions:
        return
    function = inspection.stage.function("ingest")
    answer = inspection.account.client("lambda").get_function_concurrency(FunctionName=function)
    reserved = answer.get("ReservedConcurrentExecutions", shards)
    if 0 < reserved < shards:
        what = f"{inspection.stage.log_stream} has {shards} shards, but only {reserved} of them are read at once"
        remedy = f"raise the reserved concurrency of ingest to {shards}, then {inspection.deploy}"
        if inspection.stage.choices.stack:
            remedy = inspection.with_parameter(f"IngestConcurrency={shards}")
        yield Finding("lag", what, remedy)


@missing_ok("ResourceNotFoundException")
def _open_shards(inspection: Inspection) -> int | None:
    client = inspection.account.client("kinesis")
    summary = client.describe_stream_summary(StreamName=inspection.stage.log_stream)
    shards: int = summary["StreamDescriptionSummary"]["OpenShardCount"]
    return shards


def lag(inspection: Inspection) -> Iterator[Finding]:
    remedies = {
        "ingest": "add more shards",
        "evaluate": f"give it more memory: {_more_memory(inspection)}",
        **dict.fromkeys(("enforce", "publish"), "see that no other function reads the stream of the state table"),
    }
    for name, remedy in remedies.items():
        age = inspection.metric("AWS/Lambda", "IteratorAge", "Maximum", FunctionName=inspection.stage.function(name))
        if age and age > (BEHIND_MS if name in ("ingest", "evaluate") else RETRIED_MS):
            advice = f"read {inspection.log_group(name)}; if there are no errors, {remedy}"
            yield Finding("lag", f"{name} was {age / 1000:.0f} s behind", advice)


def dropped(inspection: Inspection) -> Iterator[Finding]:
    """Checks that evaluate has room for every client."""
    clients = inspection.metric("Sluice", "ViewDropped", "Sum", service=inspection.stage.prefix)
    if clients:
        what = f"evaluate dropped {clients:.0f} clients for lack of memory: some may be over a limit"
        yield Finding("memory", what, f"give it more: {_more_memory(inspection)}")


def quotas(inspection: Inspection) -> Iterator[Finding]:
    """Checks that sweep has room for every client of a quota, and read every tally in time."""
    service = inspection.stage.prefix
    clients = inspection.metric("Sluice", "QuotaDropped", "Sum", service=service)
    if clients:
        what = f"sweep dropped {clients:.0f} clients for lack of memory: some may be over a quota"
        remedy = "narrow the scopes of the quotas, or have them count wider networks, by ipv4 and ipv6 in aggregate"
        if not inspection.stage.choices.stack:
            remedy += f"; or raise lambda_memory_size of sweep in .chalice/config.json, then {inspection.deploy}"
        yield Finding("memory", what, remedy)
    tallies = inspection.metric("Sluice", "QuotaMissing", "Sum", service=service)
    if tallies:
        what = (
            f"{tallies:.0f} tallies no longer existed when sweep was to read them: quotas do not count their requests"
        )
        advice = "if the tally table was not restored from a backup, sweep was away or behind for hours"
        yield Finding("quotas", what, f"{advice}: read {inspection.log_group('sweep')}")


def _more_memory(inspection: Inspection) -> str:
    return inspection.change("--requests-per-second N", "EvaluateMemory=MB", of_functions=True)


def objects(inspection: Inspection) -> Iterator[Finding]:
    """Checks that notifications about objects are handled."""
    stage = inspection.stage
    if not stage.choices.buckets:
        return
    sent = inspection.metric("AWS/SQS", "NumberOfMessagesSent", "Sum", over_s=NOTIFIED_S, QueueName=stage.objects_queue)
    if not sent:
        what = f"{stage.objects_queue} has received no notification about an object for a day"
        names = ", ".join(stage.choices.buckets)
        remedy = f"see that objects are written under {names}; if they are, "
        if stage.choices.elsewhere:
            remedy += f"compare what notifies the queue with {inspection.setup} --print cloudformation"
        elif stage.choices.notification or stage.choices.event_rules:
            remedy += f"{inspection.setup} repairs what notifies the queue"
        else:
            remedy += "have your topic or rule send to the queue, or: " + f"{inspection.setup} --notification"
        yield Finding("objects", what, remedy, wrong=False)
    failed, waiting = (
        inspection.metric("AWS/SQS", name, "Maximum", QueueName=queue) or 0
        for name, queue in (
            ("ApproximateNumberOfMessagesVisible", stage.objects_dead_letters),
            ("ApproximateAgeOfOldestMessage", stage.objects_queue),
        )
    )
    if failed:
        what = f"{failed:.0f} notifications about objects could not be handled: their logs are not counted"
        arn = stage.queue_arn(stage.objects_dead_letters)
        log = inspection.log_group("import_objects")
        remedy = f"find the reason in {log}, remove it, then: aws sqs start-message-move-task --source-arn {arn}"
        yield Finding("objects", what, remedy)
    if waiting > WAITING_S:
        what = f"the oldest notification about an object has waited for {waiting / 60:.0f} minutes"
        yield Finding("objects", what, f"read {inspection.log_group('import_objects')}")


def fields(inspection: Inspection) -> Iterator[Finding]:
    """Compares the fields and the sample rate of CloudFront's logs with the settings of ingest."""
    if "cloudfront" not in inspection.stage.choices.sources:
        return
    with missing_ok("NoSuchRealtimeLogConfig"):
        answer = inspection.account.client("cloudfront").get_realtime_log_config(Name=inspection.stage.log_config)
        logged, rate = set(answer["RealtimeLogConfig"]["Fields"]), answer["RealtimeLogConfig"]["SamplingRate"]
        settings = inspection.environment("ingest")
        different = sorted(logged ^ set(settings.get("CLOUDFRONT_FIELDS", "").split(",")))
        if settings and different:
            what = f"the log configuration and ingest differ in {', '.join(different)}: lines are malformed"
            restore = f"{inspection.setup}, then {inspection.deploy}"
            if inspection.stage.choices.stack:
                restore = f"give {inspection.stage.log_config} the fields of the stack's parameter CloudFrontFields"
            yield Finding("fields", what, restore)
        if settings and str(rate) != settings.get("SAMPLE_RATE"):
            what = f"CloudFront logs {rate} % of requests, but ingest assumes {settings.get('SAMPLE_RATE')} %"
            follow = inspection.change(f"--sample-rate {rate}", f"SampleRate={rate}", of_functions=True)
            yield Finding("sampling", what, follow)
        if rate < 100:
            what = f"CloudFront logs {rate} % of requests: counts are estimates, and a block may come too early"
            every = inspection.change("--sample-rate 100", "SampleRate=100", of_functions=True)
            yield Finding("sampling", what, every, wrong=False)


def malformed(inspection: Inspection) -> Iterator[Finding]:
    service = inspection.stage.prefix
    bad, good = (inspection.metric("Sluice", name, "Sum", service=service) or 0 for name in ("Malformed", "Requests"))
    if bad > MALFORMED_SHARE * (bad + good):
        what = f"{100 * bad / (bad + good):.0f} % of the lines are malformed"
        older = f"older samples are in {inspection.log_group('ingest')}"
        yield Finding("malformed", what, f"'sluice status' shows samples and what to do; {older}")


def late(inspection: Inspection) -> Iterator[Finding]:
    """Checks that requests are processed while they still count."""
    service = inspection.stage.prefix
    missed, counted = (inspection.metric("Sluice", name, "Sum", service=service) or 0 for name in ("Late", "Requests"))
    if missed > LATE_SHARE * (missed + counted):
        what = f"{100 * missed / (missed + counted):.0f} % of the requests came too late to count"
        longer = inspection.set("RETENTION_S=SECONDS")
        if inspection.environment("ingest").get("RETENTION_S") == str(LONGEST_RETENTION_S):
            longer = f"count another log of the site, because none counts after {LONGEST_RETENTION_S // 3600} hours"
        yield Finding("late", what, f"after an outage, wait; if the log is always so late: {longer}")


def proxies(inspection: Inspection) -> Iterator[Finding]:
    spared = inspection.metric("Sluice", f"Offenders.{Outcome.PROXY}", "Sum", service=inspection.stage.prefix)
    if spared:
        what = (
            f"{plural(int(spared), 'client')} over a limit had the address of CloudFront or another CDN: they are "
            "proxies, and are not blocked, because all clients behind them would be refused"
        )
        networks = "NETWORK,..."
        trust = inspection.change(f"--set TRUSTED_PROXIES={networks}", f"TrustedProxies={networks}", of_functions=True)
        remedy = (
            f"{trust}, with the networks from which the CDN connects (CloudFront's are the prefix list "
            "com.amazonaws.global.cloudfront.origin-facing); if the site is behind none: "
            f"{inspection.set('SPARE_PROXIES=no')}"
        )
        yield Finding("proxies", what, remedy)


def waf_filters(inspection: Inspection) -> Iterator[Finding]:
    if "waf" not in inspection.stage.choices.sources:
        return
    for arn in inspection.stage.choices.web_acls:
        with missing_ok("WAFNonexistentItemException"):
            answer = inspection.account.client("wafv2").get_logging_configuration(ResourceArn=arn)
            if answer["LoggingConfiguration"].get("LoggingFilter"):
                what = f"a filter drops some logs of web ACL {arn.split('/')[-2]}: the requests in them are not counted"
                remedy = "remove the filter from its logging configuration, or write rules for the requests it keeps"
                yield Finding("sampling", what, remedy, wrong=False)
