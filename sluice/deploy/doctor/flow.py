"""Do log lines arrive, whole, in time, and in the form that is expected?"""

from collections.abc import Iterator

from sluice.deploy.account import missing_ok
from sluice.deploy.doctor.inspection import LOOKED_BACK_S, Finding, Inspection

BEHIND_MS = 60_000
MALFORMED_SHARE = 0.05


def records(inspection: Inspection) -> Iterator[Finding]:
    arrived = inspection.metric("AWS/Kinesis", "IncomingRecords", "Sum", StreamName=inspection.stage.log_stream)
    if not arrived:
        yield Finding(
            "records",
            f"nothing has arrived in {inspection.stage.log_stream} for {LOOKED_BACK_S // 60} minutes",
            "attach the log configuration to what has traffic: "
            f"{inspection.command('setup')} --distribution ID, or --web-acl NAME --source waf",
        )
    refused = inspection.metric(
        "AWS/Kinesis", "WriteProvisionedThroughputExceeded", "Sum", StreamName=inspection.stage.log_stream
    )
    if refused:
        remedy = f"{inspection.command('setup')} --shards {2 * inspection.stage.choices.shards or 0}"
        yield Finding("records", f"the stream has refused {refused:.0f} lines: they are lost", remedy)


def lag(inspection: Inspection) -> Iterator[Finding]:
    function = inspection.stage.function("ingest")
    age = inspection.metric("AWS/Lambda", "IteratorAge", "Maximum", FunctionName=function)
    if age and age > BEHIND_MS:
        yield Finding(
            "lag",
            f"ingest was {age / 1000:.0f} s behind",
            f"look into the log group /aws/lambda/{function}; with errors missing_ok, more shards or more concurrency",
        )


def fields(inspection: Inspection) -> Iterator[Finding]:
    """The selected fields and the sampling of CloudFront's logs against what the functions believe."""
    if "cloudfront" not in inspection.stage.choices.sources:
        return
    with missing_ok("NoSuchRealtimeLogConfig"):
        answer = inspection.account.client("cloudfront").get_realtime_log_config(Name=inspection.stage.log_config)
        config = answer["RealtimeLogConfig"]
        believed = inspection.environment("ingest")
        expected = set(believed.get("CLOUDFRONT_FIELDS", "").split(","))
        if believed and set(config["Fields"]) != expected:
            odd = ", ".join(sorted(set(config["Fields"]) ^ expected))
            yield Finding(
                "fields",
                f"the log configuration and ingest do not agree about {odd}: lines are malformed",
                f"{inspection.command('setup')}, then {inspection.deploy}",
            )
        rate = str(config["SamplingRate"])
        if believed and rate != believed.get("SAMPLE_RATE"):
            yield Finding(
                "sampling",
                f"CloudFront logs {rate} % of requests, and ingest believes {believed.get('SAMPLE_RATE')} %",
                f"{inspection.command('setup')} --sample-rate {rate}, then {inspection.deploy}",
            )
        if config["SamplingRate"] < 100:
            what = f"CloudFront logs {rate} % of requests: counts are estimates, and a block may come too early"
            yield Finding("sampling", what, inspection.command("setup") + " --sample-rate 100", wrong=False)


def malformed(inspection: Inspection) -> Iterator[Finding]:
    bad, good = (inspection.own_metric(name, "Sum") or 0 for name in ("Malformed", "Requests"))
    if bad > MALFORMED_SHARE * (bad + good):
        share = 100 * bad / (bad + good)
        yield Finding(
            "malformed",
            f"{share:.0f} % of the lines cannot be read",
            f"samples stand in the log group /aws/lambda/{inspection.stage.function('ingest')}",
        )


def waf_filters(inspection: Inspection) -> Iterator[Finding]:
    if "waf" not in inspection.stage.choices.sources:
        return
    for arn in inspection.stage.choices.web_acls:
        with missing_ok("WAFNonexistentItemException"):
            answer = inspection.account.client("wafv2").get_logging_configuration(ResourceArn=arn)
            if answer["LoggingConfiguration"].get("LoggingFilter"):
                yield Finding(
                    "sampling",
                    f"the logs of web ACL {arn.split('/')[-2]} are filtered: what is filtered out is not counted",
                    "take the filter off its logging configuration, or write rules for what is left",
                    wrong=False,
                )
