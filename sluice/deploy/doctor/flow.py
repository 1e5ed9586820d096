"""Checks that log lines arrive completely, in time, and in the expected form."""

from collections.abc import Iterator

from sluice.deploy.account import missing_ok
from sluice.deploy.doctor.inspection import METRIC_PERIOD_S, Finding, Inspection

BEHIND_MS = 60_000
MALFORMED_SHARE = 0.05


def records(inspection: Inspection) -> Iterator[Finding]:
    stream, shards = inspection.stage.log_stream, inspection.stage.choices.shards
    if not inspection.metric("AWS/Kinesis", "IncomingRecords", "Sum", StreamName=stream):
        yield Finding(
            "records",
            f"nothing has arrived in {stream} for {METRIC_PERIOD_S // 60} minutes",
            "attach the log configuration to resources with traffic: "
            f"{inspection.setup} --distribution ID, or --web-acl NAME --source waf",
        )
    rejected = inspection.metric("AWS/Kinesis", "WriteProvisionedThroughputExceeded", "Sum", StreamName=stream)
    if rejected:
        remedy = (
            f"{inspection.setup} --shards {2 * shards}" if shards else "wait: an on-demand stream adds shards itself"
        )
        yield Finding("records", f"the stream rejected {rejected:.0f} lines, which are lost", remedy)


def lag(inspection: Inspection) -> Iterator[Finding]:
    age = inspection.metric("AWS/Lambda", "IteratorAge", "Maximum", FunctionName=inspection.stage.function("ingest"))
    if age and age > BEHIND_MS:
        yield Finding(
            "lag",
            f"ingest was {age / 1000:.0f} s behind",
            f"read {inspection.log_group('ingest')}; if there are no errors, add more shards or more concurrency",
        )


def fields(inspection: Inspection) -> Iterator[Finding]:
    """Compares the fields and the sample rate of CloudFront's logs with the settings of ingest."""
    if "cloudfront" not in inspection.stage.choices.sources:
        return
    with missing_ok("NoSuchRealtimeLogConfig"):
        answer = inspection.account.client("cloudfront").get_realtime_log_config(Name=inspection.stage.log_config)
        config = answer["RealtimeLogConfig"]
        settings = inspection.environment("ingest")
        expected = set(settings.get("CLOUDFRONT_FIELDS", "").split(","))
        if settings and set(config["Fields"]) != expected:
            different = ", ".join(sorted(set(config["Fields"]) ^ expected))
            yield Finding(
                "fields",
                f"the log configuration and ingest differ in {different}: lines are malformed",
                f"{inspection.setup}, then {inspection.deploy}",
            )
        rate = str(config["SamplingRate"])
        if settings and rate != settings.get("SAMPLE_RATE"):
            yield Finding(
                "sampling",
                f"CloudFront logs {rate} % of requests, but ingest assumes {settings.get('SAMPLE_RATE')} %",
                f"{inspection.setup} --sample-rate {rate}, then {inspection.deploy}",
            )
        if config["SamplingRate"] < 100:
            what = f"CloudFront logs {rate} % of requests: counts are estimates, and a block may come too early"
            yield Finding("sampling", what, f"{inspection.setup} --sample-rate 100", wrong=False)


def malformed(inspection: Inspection) -> Iterator[Finding]:
    service = inspection.stage.prefix
    bad, good = (inspection.metric("Sluice", name, "Sum", service=service) or 0 for name in ("Malformed", "Requests"))
    if bad > MALFORMED_SHARE * (bad + good):
        share = 100 * bad / (bad + good)
        yield Finding(
            "malformed",
            f"{share:.0f} % of the lines are malformed",
            f"find samples in {inspection.log_group('ingest')}",
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
                    f"a filter drops some logs of web ACL {arn.split('/')[-2]}: those requests are not counted",
                    "remove the filter from its logging configuration, or write rules for the requests it keeps",
                    wrong=False,
                )
