"""The stage in Chalice's configuration: environment and policies of the functions."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chalicelib.config import ConfigError, read_config
from chalicelib.core.ipsets import SetGroup
from chalicelib.core.refusals import REFUSAL_STATUS
from chalicelib.core.responses import Response
from sluice.deploy.account import AwsAccount
from sluice.deploy.api_policy import api_policy
from sluice.deploy.policies import FUNCTIONS, Policy, arns_of, file_name, policies, write
from sluice.deploy.resource import Existing, Resource
from sluice.deploy.resources.tables import stream_of
from sluice.deploy.resources.waf import ip_sets_of
from sluice.deploy.stage import Refusal, Stage

ChaliceConfig = dict[str, Any]

ACCESS = "api"
"""Name of the file with the policy of the admin API, among those of functions."""

POLICY_FILE = "api_gateway_policy_file"
"""Chalice's setting for that file."""


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
        """Raises Refusal if the directory is not a checkout of Sluice."""
        if not self.config_file.exists():
            raise Refusal(
                f"{self.config_file} is missing: run this in a checkout of Sluice, or name one with --project"
            )
        return dict(json.loads(self.config_file.read_text()))

    @property
    def architecture(self) -> str:
        """Architecture of the functions, which setup leaves as the checkout has it."""
        return str(self.config().get("lambda_architecture", "x86_64"))

    def stage(self, name: str) -> ChaliceConfig | None:
        stage: ChaliceConfig | None = self.config().get("stages", {}).get(name)
        return stage

    def reserved(self, stage: str, function: str) -> int:
        """Returns the concurrent executions that a function reserves in a stage; 0 for none."""
        for settings in (self.stage(stage) or {}, self.config()):
            reserved = settings.get("lambda_functions", {}).get(function, {}).get("reserved_concurrency")
            if reserved is not None:
                return int(reserved)
        return 0

    def set_stage(self, name: str, stage: ChaliceConfig | None) -> None:
        """Writes the stage, or removes it if it is None. Replaces the file atomically."""
        config = self.config()
        others = {other: settings for other, settings in config.get("stages", {}).items() if other != name}
        config["stages"] = {**others, name: stage} if stage is not None else others
        temporary = self.config_file.with_suffix(".new")
        temporary.write_text(json.dumps(config, indent=2) + "\n")
        temporary.replace(self.config_file)

    def policies(self, stage: str) -> dict[str, Policy]:
        """Returns the content of the stage's policy files, by function, and of that of the API."""
        files = {name: self.chalice / file_name(name, stage) for name in (*FUNCTIONS, ACCESS)}
        return {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}

    def remove_policies(self, stage: str) -> None:
        for function in self.policies(stage):
            (self.chalice / file_name(function, stage)).unlink()


@dataclass(frozen=True, slots=True)
class ChaliceStage(Resource):
    kind = "Chalice stage"

    project: Project

    def find(self, account: AwsAccount) -> Existing | None:
        written = self.project.stage(self.name)
        if written is None:
            return None
        settings, allowed = self._desired(account) or (None, None)
        wrong = ["settings"] if written != settings else []
        wrong += ["policies"] if self.project.policies(self.name) != allowed else []
        return Existing(True, [" and ".join(wrong)] if wrong else [])

    def create(self, account: AwsAccount) -> None:
        desired = self._desired(account)
        if desired is None:
            raise Refusal("an IP set or a table's stream is missing: run setup again")
        settings, allowed = desired
        self.project.remove_policies(self.name)
        write(self.project.chalice, allowed, self.name)
        self.project.set_stage(self.name, settings)

    def remove(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        self.project.remove_policies(self.name)
        self.project.set_stage(self.name, None)

    def _desired(self, account: AwsAccount) -> tuple[ChaliceConfig, dict[str, Policy]] | None:
        """Returns the stage's configuration and its policies; None while an IP set or a table's stream is missing."""
        ip_sets, groups = ip_sets_of(self.stage, account), self.stage.ip_sets
        tally_stream = stream_of(self.stage.tally_table, account)
        state_stream = stream_of(self.stage.state_table, account)
        if tally_stream is None or state_stream is None or len(ip_sets) < sum(map(len, groups.values())):
            return None
        pairs = {group: [f"{name}/{ip_sets[name]['Id']}" for name in names] for group, names in groups.items()}
        arns = [ip_sets[name]["ARN"] for names in groups.values() for name in names]
        streams = {"tally_stream": tally_stream, "state_stream": state_stream}
        allowed = policies(arns_of(self.stage, arns, **streams))
        functions: ChaliceConfig = {name: {"iam_policy_file": file_name(name, self.name)} for name in allowed}
        functions["evaluate"]["lambda_memory_size"] = self.stage.choices.evaluator_mb
        reserved = self.project.config().get("lambda_functions", {}).get("ingest", {}).get("reserved_concurrency", 0)
        if reserved and self.stage.choices.shards > reserved:
            functions["ingest"]["reserved_concurrency"] = self.stage.choices.shards
        settings: ChaliceConfig = {
            "environment_variables": environment(self.stage, pairs, **streams),
            "lambda_functions": functions,
            "tags": self.stage.tags,
        }
        if self.stage.choices.api_networks:
            settings[POLICY_FILE] = file_name(ACCESS, self.name)
            allowed[ACCESS] = api_policy(self.stage.choices.api_networks)
        return settings, allowed


def check_settings(stage: Stage) -> None:
    """Raises Refusal for a setting that is invalid or derived, before there are IP sets and tables."""
    ip_sets = {group: [f"{name}/{name}" for name in names] for group, names in stage.ip_sets.items()}
    tally_stream, state_stream = map(stage.table_arn, (stage.tally_table, stage.state_table))
    environment(stage, ip_sets, tally_stream=tally_stream, state_stream=state_stream)


def environment(
    stage: Stage, ip_sets: Mapping[SetGroup, Sequence[str]], *, tally_stream: str, state_stream: str
) -> dict[str, str]:
    """Returns the functions' environment variables.

    ``ip_sets`` has the name/id pairs of each group, the streams are ARNs. Raises Refusal for a setting that is invalid
    or derived.
    """
    choices = stage.choices
    softer = [
        f"{group.response}/v{group.family}/{pair}"
        for group, pairs in ip_sets.items()
        if group.response is not Response.BLOCK
        for pair in pairs
    ]
    variables = {
        "SERVICE": stage.prefix,
        "STATE_TABLE": stage.state_table,
        "TALLY_TABLE": stage.tally_table,
        "LOG_STREAM": stage.log_stream,
        "TALLY_STREAM_ARN": tally_stream,
        "STATE_STREAM_ARN": state_stream,
        "IP_SETS_V4": ",".join(ip_sets[SetGroup(Response.BLOCK, 4)]),
        "IP_SETS_V6": ",".join(ip_sets[SetGroup(Response.BLOCK, 6)]),
        "SOFTER_IP_SETS": ",".join(softer),
        "BLOCK_STATUS": str(choices.block_status) if choices.block_status != REFUSAL_STATUS else "",
        "WAF_SCOPE": choices.scope,
        "CLOUDFRONT_FIELDS": ",".join(choices.fields),
        "SAMPLE_RATE": str(choices.sample_rate),
        "TOKENS_PARAMETER": stage.tokens_parameter,
        "OBJECTS_QUEUE": stage.objects_queue if choices.buckets else "",
    }
    derived = sorted(variables.keys() & choices.settings.keys())
    if derived:
        raise Refusal(f"setting {derived[0]} is determined by setup's other options; remove it from --set")
    variables = {name: value for name, value in variables.items() if value}
    variables |= choices.settings
    try:
        read_config(variables)
    except ConfigError as exc:
        raise Refusal(f"setting {exc}") from exc
    return variables
