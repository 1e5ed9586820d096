"""Writes into the CloudFormation template what setup makes from the same definitions.

Run ``python -m sluice.deploy.template`` after a change of the rules, the alarms, the dashboard or the budget.
"""

import re
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped] # Chalice requires it

from sluice.deploy.cloudformation import monitoring_resources, waf_resources

TEMPLATE = Path(".chalice/resources.yaml")

WRITTEN = re.compile(
    r"(?<=  # Written by python -m sluice.deploy.template: do not edit\n).*?(?=  # End of what is written\n)", re.DOTALL
)


class _WithoutAnchors(yaml.SafeDumper):  # type: ignore[misc] # yaml has no types
    """A dumper that repeats whatever occurs twice, because CloudFormation does not support anchors."""

    def ignore_aliases(self, _: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> Any:
    """Returns a node that keeps the lines of a text."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_WithoutAnchors.add_representer(str, _text)


def written(template: str) -> str:
    """Returns the text of the template with its written parts as they should be."""
    parts = iter((waf_resources(), monitoring_resources()))
    return WRITTEN.sub(lambda _: _dumped(next(parts)), template)


def _dumped(resources: dict[str, Any]) -> str:
    text = yaml.dump(resources, Dumper=_WithoutAnchors, sort_keys=False, default_flow_style=None, width=160)
    return "".join(f"  {line}\n" for line in text.splitlines())


if __name__ == "__main__":
    TEMPLATE.write_text(written(TEMPLATE.read_text()))
