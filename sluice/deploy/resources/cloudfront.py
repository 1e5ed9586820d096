"""CloudFront: the real-time log configuration, and the distributions that use it.

A real-time log configuration cannot be tagged, so Sluice owns those that write to the stage's stream.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from sluice.deploy.account import AwsAccount, missing_ok
from sluice.deploy.resource import Existing, Resource
from sluice.deploy.resources.web_acls import flat_rate_plan
from sluice.deploy.stage import Refusal

ROLE_UNKNOWN = ("InvalidArgument", "AccessDenied")
"""Error codes of CloudFront until it knows a new role."""
KNOWN_S = 180.0
"""Longest time, in seconds, until CloudFront knows a new role or log configuration."""

DETACHING_S = 900.0
"""Longest time, in seconds, until a distribution has stopped using a log configuration at all edges."""


class LogConfig(Resource):
    kind = "CloudFront real-time log configuration"

    @missing_ok("NoSuchRealtimeLogConfig")
    def find(self, account: AwsAccount) -> Existing | None:
        answer = account.client("cloudfront").get_realtime_log_config(Name=self.name)
        config, desired = answer["RealtimeLogConfig"], self._desired()
        streams = [point["KinesisStreamConfig"]["StreamARN"] for point in config["EndPoints"]]
        wrong, rate = [], config["SamplingRate"]
        if set(config["Fields"]) != set(desired["Fields"]):
            wrong.append(f"fields become {','.join(desired['Fields'])}")
        if rate != desired["SamplingRate"]:
            wrong.append(f"{rate} % of requests become {desired['SamplingRate']} %")
        if config["EndPoints"] != desired["EndPoints"]:
            wrong.append("stream and role")
        return Existing(self.stage.log_stream_arn in streams, wrong, config)

    def create(self, account: AwsAccount) -> None:
        create = account.client("cloudfront").create_realtime_log_config
        account.retry(create, ROLE_UNKNOWN, KNOWN_S, Name=self.name, **self._desired())

    def change(self, account: AwsAccount, existing: Existing) -> None:
        update = account.client("cloudfront").update_realtime_log_config
        update(Name=self.name, ARN=existing.facts["ARN"], **self._desired())

    def remove(self, account: AwsAccount, existing: Existing) -> None:
        delete = account.client("cloudfront").delete_realtime_log_config
        account.retry(delete, ["RealtimeLogConfigInUse"], DETACHING_S, ARN=existing.facts["ARN"])

    def _desired(self) -> dict[str, Any]:
        stage, choices = self.stage, self.stage.choices
        stream = {"RoleARN": stage.delivery_role_arn, "StreamARN": stage.log_stream_arn}
        return {
            "EndPoints": [{"StreamType": "Kinesis", "KinesisStreamConfig": stream}],
            "Fields": list(choices.fields),
            "SamplingRate": choices.sample_rate,
        }


class DistributionLogging(Resource):
    """The log configuration in all cache behaviours of a distribution, which has another owner.

    ``name`` is the distribution's id.
    """

    kind = "CloudFront distribution"

    def find(self, account: AwsAccount) -> Existing | None:
        with missing_ok("NoSuchDistribution"):
            answer = account.client("cloudfront").get_distribution_config(Id=self.name)
            desired = self._config_arn()
            attached = [(path, _log_config(behaviour)) for path, behaviour in behaviours(answer["DistributionConfig"])]
            for path, arn in attached:
                if arn not in (None, desired):
                    raise Refusal(
                        f"distribution {self.name}: cache behaviour {path} logs to {arn}, and a behaviour holds only "
                        f"one real-time log configuration. Add this stage's stream, {self.stage.log_stream_arn}, to it "
                        "as a second endpoint and run setup without this --distribution, or remove it from the "
                        "behaviour and run setup again"
                    )
            missing = sum(arn is None for _, arn in attached)
            if missing == len(attached):
                if plan := flat_rate_plan(account, self.stage.distribution_arn(self.name)):
                    raise Refusal(
                        f"distribution {self.name} is on the flat-rate plan {plan}, which has no real-time logs. "
                        "Use --source cloudfront-standard or --source waf; plans have these logs from PRO on"
                    )
                return None
            return Existing(True, [f"{missing} cache behaviour{'s' * (missing != 1)} to attach"] if missing else [])
        raise Refusal(
            f"distribution {self.name} does not exist; 'aws cloudfront list-distributions' lists those that do"
        )

    def remains(self, account: AwsAccount) -> Existing | None:
        with missing_ok("NoSuchDistribution"):
            config = account.client("cloudfront").get_distribution_config(Id=self.name)["DistributionConfig"]
            if any(_log_config(behaviour) == self._config_arn() for _, behaviour in behaviours(config)):
                return Existing(ours=True)
        return None

    def keeps(self, existing: Existing) -> str:  # noqa: ARG002
        return f"{LogConfig.kind} {self.stage.log_config}"

    def create(self, account: AwsAccount) -> None:
        self._edit(account, None, self._config_arn())

    def remove(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        self._edit(account, self._config_arn(), None)

    def _edit(self, account: AwsAccount, before: str | None, after: str | None) -> None:
        """Replaces the log configuration ``before`` with ``after`` in all cache behaviours that have it."""
        client = account.client("cloudfront")

        def update() -> None:
            answer = client.get_distribution_config(Id=self.name)
            config = answer["DistributionConfig"]
            for _, behaviour in behaviours(config):
                if _log_config(behaviour) == before:
                    behaviour.pop("RealtimeLogConfigArn", None)
                    behaviour.update({"RealtimeLogConfigArn": after} if after else {})
            client.update_distribution(Id=self.name, IfMatch=answer["ETag"], DistributionConfig=config)

        account.retry(update, ["PreconditionFailed", "InvalidIfMatchVersion", "NoSuchRealtimeLogConfig"], KNOWN_S)

    def _config_arn(self) -> str:
        return self.stage.location.arn("cloudfront", f"realtime-log-config/{self.stage.log_config}", region=False)


def behaviours(config: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the path pattern and the settings of each cache behaviour."""
    yield "*", config["DefaultCacheBehavior"]
    for behaviour in config.get("CacheBehaviors", {}).get("Items", ()):
        yield behaviour["PathPattern"], behaviour


def _log_config(behaviour: Mapping[str, Any]) -> str | None:
    return behaviour.get("RealtimeLogConfigArn") or None
