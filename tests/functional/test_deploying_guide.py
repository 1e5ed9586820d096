"""The guide to deployment, followed word by word: each of its commands, in order, in an account in moto.

Every section begins with the account that its first sentences describe. There is no Terraform, the
functions are not packaged, and of a stack, only the tables and parameters exist in moto.
"""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from moto.cloudfront.models import cloudfront_backends

from tests.support.deploy.account import REGION, ROOT, THEIRS, Run, World
from tests.support.deploy.front import run_no_functions

GUIDES = ("docs/operate/deploying.md", "docs/operate/objects.md")
DISTRIBUTION = "E2EXAMPLE1234"

BEFORE = {"deploying: The place in the web ACL": ["sluice setup --web-acl edge"]}
"""Commands that precede a section, if its stage exists already."""

FINDS_FAULTS = ("doctor",)
"""Commands whose status is not 0 as long as something is wrong, as before the first request."""

ELSEWHERE = ("python", "pip", "terraform", "tail", "sluice decode")
"""Commands of other programs, and those that read files of the reader's."""


def sections() -> dict[str, list[str]]:
    """Returns the commands of each section that has any, without their comments."""
    commands: dict[str, list[str]] = {}
    for guide in GUIDES:
        for section in re.split(r"^#{2,3} ", (ROOT / guide).read_text(encoding="utf-8"), flags=re.MULTILINE):
            title, _, text = section.partition("\n")
            lines = re.findall(r"^\$ (.+)$", text, re.MULTILINE)
            # The clients of the tests are those of one region.
            lines = [line for line in lines if not line.startswith(ELSEWHERE) and "--region" not in line]
            if lines:
                commands[f"{Path(guide).stem}: {title}"] = lines
    return commands


SECTIONS = sections()


@pytest.fixture
def follow(deployable: World, run: Run) -> Callable[[str], Result]:
    """Returns a function that types one command of a guide, and answers each question with yes."""
    world = deployable
    world.web_acl(rules=[THEIRS])
    world.account.client("s3").create_bucket(Bucket="logs-of-site")
    created = world.distribution()
    backend = cloudfront_backends["123456789012"]["aws"]
    distribution = backend.distributions.pop(created)
    distribution.distribution_id, distribution.arn = DISTRIBUTION, distribution.arn.replace(created, DISTRIBUTION)
    backend.distributions[DISTRIBUTION] = distribution

    def typed(line: str) -> Result:
        words = shlex.split(line.partition(" > ")[0], comments=True)
        assert words.pop(0) == "sluice", line
        command = " ".join(words[:2] if words[0] == "stack" else words[:1])
        options = words[len(command.split()) :]
        done = run(command, *options, typed="y\n")
        run_no_functions(REGION)
        if command == "stack deploy":
            _create_rule_group(world)
        return done

    return typed


def _create_rule_group(world: World) -> None:
    """Creates a rule group as of a stack, without rules."""
    visibility = {"SampledRequestsEnabled": True, "CloudWatchMetricsEnabled": True, "MetricName": "sluice-prod"}
    world.account.client("wafv2").create_rule_group(
        Name="sluice-prod", Scope="CLOUDFRONT", Capacity=50, Rules=[], VisibilityConfig=visibility
    )


@pytest.mark.parametrize("section", SECTIONS)
def test_the_commands_of_a_section_work_as_printed(
    deployable: World, follow: Callable[[str], Result], section: str
) -> None:
    if "flat-rate" in section:
        arn = f"arn:aws:cloudfront::123456789012:distribution/{DISTRIBUTION}"
        deployable.front.plans = [{"planFamily": "CLOUDFRONT", "planTier": "PRO", "resourceArns": [arn]}]
    for line in [*BEFORE.get(section, ()), *SECTIONS[section]]:
        done = follow(line)
        program = shlex.split(line)[1]
        assert done.exception is None or isinstance(done.exception, SystemExit), (line, done.exception)
        assert program in FINDS_FAULTS or done.exit_code == 0, f"{line}\n{done.output}{done.stderr}"
        assert "could not check" not in done.output, f"{line}\n{done.output}"
