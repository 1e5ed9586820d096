"""The stage in Chalice's configuration: what ``chalice deploy`` gives the functions, and what it lets them do."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chalicelib.config import ConfigError, read_config
from sluice.deploy.account import AwsAccount, missing_ok
from sluice.deploy.policies import FUNCTIONS, Policy, arns_of, file_name, policies, write
from sluice.deploy.resource import Existing, Resource
from sluice.deploy.resources.waf import ip_set_names, ip_sets_of
from sluice.deploy.stage import Refusal, Stage

ChaliceConfig = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Project:
    """A checkout of Sluice."""

    directory: Path

    @property
    def chalice(self) -> Path:
        return self.directory / ".chalice"

    @property
    def config_file(self) -> Path:
        return self.chalice / "config.json"

    def config(self) -> ChaliceConfig:
        """Raises Refusal where there is no checkout."""
        try:
            config: ChaliceConfig = json.loads(self.config_file.read_text())
        except FileNotFoundError:
            raise Refusal(
                f"{self.config_file} is missing: run this in a checkout of Sluice, or name one with --project"
            ) from None
        return config

    def stage(self, name: str) -> ChaliceConfig | None:
        stage: ChaliceConfig | None = self.config().get("stages", {}).get(name)
        return stage

    def set_stage(self, name: str, stage: ChaliceConfig | None) -> None:
        """Writes the stage, or takes it out if it is None. The file is replaced whole, so it is never half written."""
        config = self.config()
        stages = {other: kept for other, kept in config.get("stages", {}).items() if other != name}
        config["stages"] = {**stages, name: stage} if stage is not None else stages
        fresh = self.config_file.with_suffix(".new")
        fresh.write_text(json.dumps(config, indent=2) + "\n")
        fresh.replace(self.config_file)

    def policies(self, stage: str) -> dict[str, Policy]:
        """The stage's policy files, by function."""
        files = {function: self.chalice / file_name(function, stage) for function in FUNCTIONS}
        return {function: json.loads(file.read_text()) for function, file in files.items() if file.exists()}

    def remove_policies(self, stage: str) -> None:
        for function in self.policies(stage):
            (self.chalice / file_name(function, stage)).unlink()


@dataclass(frozen=True, slots=True)
class ChaliceStage(Resource):
    kind = "Chalice stage"
    about = "settings and policies for 'chalice deploy', in .chalice"

    project: Project

    @property
    def name(self) -> str:
        return self.stage.name

    def find(self, account: AwsAccount) -> Existing | None:
        held = self.project.stage(self.name)
        if held is None:
            return None
        wanted = self._wanted(account)
        facts = {
            "stage": held,
            "policies": self.project.policies(self.name),
            "wanted": wanted and wanted[0],
            "wanted_policies": wanted and wanted[1],
        }
        return Existing(ours=True, facts=facts)

    def differences(self, existing: Existing) -> list[str]:
        facts = existing.facts
        wrong = []
        if facts["wanted"] is None or facts["stage"] != facts["wanted"]:
            wrong.append("settings")
        if facts["wanted_policies"] is None or facts["policies"] != facts["wanted_policies"]:
            wrong.append("policies")
        return [" and ".join(wrong)] if wrong else []

    def create(self, account: AwsAccount) -> None:
        wanted = self._wanted(account)
        if wanted is None:
            raise Refusal("the IP sets or the state table are missing: run setup again")
        stage, allowed = wanted
        self.project.remove_policies(self.name)
        write(self.project.chalice, allowed, self.name)
        self.project.set_stage(self.name, stage)

    def change(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        self.create(account)

    def remove(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        self.project.remove_policies(self.name)
        self.project.set_stage(self.name, None)

    def _wanted(self, account: AwsAccount) -> tuple[ChaliceConfig, dict[str, Policy]] | None:
        """The stage's part of the configuration, and its policies; None as long as there is something missing."""
        sets = ip_sets_of(self.stage, account)
        families = ip_set_names(self.stage)
        names = [name for family in families.values() for name in family]
        state_stream = None
        with missing_ok("ResourceNotFoundException"):
            table = account.client("dynamodb").describe_table(TableName=self.stage.state_table)["Table"]
            state_stream = table.get("LatestStreamArn")
        if state_stream is None or any(name not in sets for name in names):
            return None
        pairs = {family: ",".join(f"{name}/{sets[name]['Id']}" for name in names) for family, names in families.items()}
        allowed = policies(arns_of(self.stage, [sets[name]["ARN"] for name in names], state_stream))
        stage = {
            "environment_variables": environment(self.stage, pairs, state_stream),
            "lambda_functions": {name: {"iam_policy_file": file_name(name, self.name)} for name in allowed},
            "tags": self.stage.tags,
        }
        return stage, allowed


def environment(stage: Stage, ip_sets: Mapping[int, str], state_stream: str) -> dict[str, str]:
    """The functions' environment. ``ip_sets``: name/id pairs by family. Raises Refusal if the settings clash."""
    choices = stage.choices
    variables = {
        "SERVICE": stage.prefix,
        "STATE_TABLE": stage.state_table,
        "TALLY_TABLE": stage.tally_table,
        "LOG_STREAM": stage.log_stream,
        "STATE_STREAM_ARN": state_stream,
        "IP_SETS_V4": ip_sets[4],
        "IP_SETS_V6": ip_sets[6],
        "WAF_SCOPE": choices.scope,
        "CLOUDFRONT_FIELDS": ",".join(choices.fields),
        "SAMPLE_RATE": str(choices.sample_rate),
        "TOKENS_PARAMETER": stage.tokens_parameter,
    }
    clash = sorted(variables.keys() & choices.settings.keys())
    if clash:
        raise Refusal(f"setting {clash[0]} follows from setup's own options; leave it out")
    variables |= choices.settings
    try:
        read_config(variables)
    except ConfigError as exc:
        raise Refusal(f"setting {exc}") from exc
    return variables
