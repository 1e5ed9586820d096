"""The Terraform example deploys the stack's template as it is, and refers to outputs that it has."""

import re
from pathlib import Path

from sluice.commands.stack import FUNCTIONS_END, TEMPLATE_END
from sluice.deploy.packaging import published
from sluice.deploy.stack import CAPABILITIES
from tests.support.deploy.additions import TEMPLATE

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "operate" / "deploying.md").read_text(encoding="utf-8")
(EXAMPLE,) = re.findall(r"```hcl\n(.*?)```", GUIDE, re.DOTALL)


def test_its_parameters_outputs_and_files_exist() -> None:
    (parameters,) = re.findall(r"parameters = \{(.*?)\n  \}", EXAMPLE, re.DOTALL)
    names = set(re.findall(r"^ +(\w+) +=", parameters, re.MULTILINE))
    template = {"Parameters": TEMPLATE["Parameters"], "Resources": {}}
    assert {"Stage", "CodeBucket", "CodeKey"} <= names <= published(template, "x")["Parameters"].keys()
    outputs = set(re.findall(r'outputs\["(\w+)"\]', EXAMPLE))
    assert {"RuleGroupArn", "LogConfigArn"} == outputs <= TEMPLATE["Outputs"].keys()
    (files,) = re.findall(r"toset\(\[(.*?)\]\)", EXAMPLE)
    assert {f"-{name}" for name in re.findall(r'"([^"]+)"', files)} == {TEMPLATE_END, FUNCTIONS_END}


def test_it_allows_what_the_template_needs() -> None:
    (allowed,) = re.findall(r"capabilities = \[(.*?)\]", EXAMPLE)
    assert re.findall(r'"(\w+)"', allowed) == list(CAPABILITIES)


def test_its_blocks_are_closed() -> None:
    assert EXAMPLE.count("{") == EXAMPLE.count("}")
    assert EXAMPLE.count("[") == EXAMPLE.count("]")
