"""CloudFront: the real-time log configuration, and the distributions that use it.

A real-time log configuration takes no tags: it is ours if it writes into our stream.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sluice.deploy.account import AwsAccount, missing_ok
from sluice.deploy.resource import Existing, Resource
from sluice.deploy.resources.web_acls import flat_rate_plan
from sluice.deploy.stage import Refusal

NOT_YET_KNOWN = ("InvalidArgument", "AccessDenied")
"""What CloudFront answers while it has not heard of a new role."""

DEPLOYING_S = 900.0
"""How long a distribution may take to give a log configuration up everywhere."""


class LogConfig(Resource):
    kind = "CloudFront real-time log configuration"

    @property
    def name(self) -> str:
        return self.stage.log_config

    @property
    def about(self) -> str:
        choices = self.stage.choices
        return f"{len(choices.fields)} fields, {choices.sample_rate} % of requests"

    def find(self, account: AwsAccount) -> Existing | None:
        with missing_ok("NoSuchRealtimeLogConfig"):
            answer = account.client("cloudfront").get_realtime_log_config(Name=self.name)
            config = answer["RealtimeLogConfig"]
            ours = any(
                end["KinesisStreamConfig"]["StreamARN"] == self.stage.log_stream_arn for end in config["EndPoints"]
            )
            return Existing(ours, config)
        return None

    def differences(self, existing: Existing) -> list[str]:
        held, choices = existing.facts, self.stage.choices
        wrong = []
        if set(held["Fields"]) != set(choices.fields):
            wrong.append(f"fields become {','.join(choices.fields)}")
        if held["SamplingRate"] != choices.sample_rate:
            wrong.append(f"{held['SamplingRate']} % of requests become {choices.sample_rate} %")
        if held["EndPoints"] != self._end_points():
            wrong.append("stream and role")
        return wrong

    def create(self, account: AwsAccount) -> None:
        account.retry(
            lambda: account.client("cloudfront").create_realtime_log_config(Name=self.name, **self._wanted()),
            NOT_YET_KNOWN,
        )

    def change(self, account: AwsAccount, existing: Existing) -> None:
        account.client("cloudfront").update_realtime_log_config(
            Name=self.name, ARN=existing.facts["ARN"], **self._wanted()
        )

    def remove(self, account: AwsAccount, existing: Existing) -> None:
        account.retry(
            lambda: account.client("cloudfront").delete_realtime_log_config(ARN=existing.facts["ARN"]),
            ["RealtimeLogConfigInUse"],
            DEPLOYING_S,
        )

    def _wanted(self) -> dict[str, Any]:
        choices = self.stage.choices
        return {
            "EndPoints": self._end_points(),
            "Fields": list(choices.fields),
            "SamplingRate": choices.sample_rate,
        }

    def _end_points(self) -> list[dict[str, Any]]:
        stage = self.stage
        stream = {"RoleARN": stage.delivery_role_arn, "StreamARN": stage.log_stream_arn}
        return [{"StreamType": "Kinesis", "KinesisStreamConfig": stream}]


@dataclass(frozen=True, slots=True)
class DistributionLogging(Resource):
    """The log configuration, attached to all cache behaviours of a distribution that is not ours."""

    kind = "CloudFront distribution"

    id: str

    @property
    def name(self) -> str:
        return self.id

    @property
    def about(self) -> str:
        return "its cache behaviours log to the stream"

    def find(self, account: AwsAccount) -> Existing | None:
        with missing_ok("NoSuchDistribution"):
            answer = account.client("cloudfront").get_distribution_config(Id=self.id)
            wanted = self._config_arn()
            missing = 0
            for path, behaviour in behaviours(answer["DistributionConfig"]):
                held = behaviour.get("RealtimeLogConfigArn") or None
                missing += held is None
                if held not in (None, wanted):
                    raise Refusal(
                        f"distribution {self.id}: cache behaviour {path} logs to {held}, and each has room for one "
                        f"real-time log configuration. Add this stage's stream, {self.stage.log_stream_arn}, there "
                        "as a second end point, or take that configuration off, then run setup again"
                    )
            total = len(list(behaviours(answer["DistributionConfig"])))
            if missing == total:
                self._check_plan(account)
                return None
            return Existing(ours=True, facts={"missing": missing})
        raise Refusal(
            f"distribution {self.id}: there is none; 'aws cloudfront list-distributions' shows those there are"
        )

    def differences(self, existing: Existing) -> list[str]:
        missing = existing.facts["missing"]
        return [f"{missing} cache behaviour{'s' * (missing != 1)} to be attached"] if missing else []

    def create(self, account: AwsAccount) -> None:
        self._edit(account, None, self._config_arn())

    def change(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        self.create(account)

    def remove(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        self._edit(account, self._config_arn(), None)

    def _edit(self, account: AwsAccount, before: str | None, after: str | None) -> None:
        """Changes the log configuration of those cache behaviours that have ``before``."""
        client = account.client("cloudfront")

        def update() -> None:
            answer = client.get_distribution_config(Id=self.id)
            config = answer["DistributionConfig"]
            for _, behaviour in behaviours(config):
                if (behaviour.get("RealtimeLogConfigArn") or None) == before:
                    behaviour.pop("RealtimeLogConfigArn", None)
                    behaviour.update({"RealtimeLogConfigArn": after} if after else {})
            client.update_distribution(Id=self.id, IfMatch=answer["ETag"], DistributionConfig=config)

        account.retry(update, ["PreconditionFailed", "InvalidIfMatchVersion", "NoSuchRealtimeLogConfig"])

    def _config_arn(self) -> str:
        return self.stage.location.arn("cloudfront", f"realtime-log-config/{self.stage.log_config}", region=False)

    def _check_plan(self, account: AwsAccount) -> None:
        arn = self.stage.location.arn("cloudfront", f"distribution/{self.id}", region=False)
        plan = flat_rate_plan(account, arn)
        if plan:
            raise Refusal(
                f"distribution {self.id} is on the flat-rate plan {plan}, which has neither real-time logs nor rule "
                "groups. Move it to pay-as-you-go pricing, then run setup again"
            )


def behaviours(config: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Path pattern and settings of each cache behaviour."""
    yield "*", config["DefaultCacheBehavior"]
    for behaviour in config.get("CacheBehaviors", {}).get("Items", ()):
        yield behaviour["PathPattern"], behaviour
