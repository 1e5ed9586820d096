"""Writes the IP sets and the rule group into the CloudFormation template.

Run ``python -m sluice.deploy.template`` after a change of the rules.
"""

import re
from pathlib import Path

import yaml  # type: ignore[import-untyped] # Chalice requires it

from sluice.deploy.cloudformation import waf_resources

TEMPLATE = Path(".chalice/resources.yaml")

WRITTEN = re.compile(
    r"(?<=  # Written by python -m sluice.deploy.template: do not edit\n).*?(?=  # End of what is written\n)", re.DOTALL
)


class _WithoutAnchors(yaml.SafeDumper):  # type: ignore[misc] # yaml has no types
    """A dumper that repeats whatever occurs twice, because CloudFormation does not support anchors."""

    def ignore_aliases(self, _: object) -> bool:
        return True


def written(template: str) -> str:
    """Returns the text of the template with its IP sets and its rule group as they should be."""
    text = yaml.dump(waf_resources(), Dumper=_WithoutAnchors, sort_keys=False, default_flow_style=None, width=160)
    indented = "".join(f"  {line}\n" for line in text.splitlines())
    return WRITTEN.sub(lambda _: indented, template)


if __name__ == "__main__":
    TEMPLATE.write_text(written(TEMPLATE.read_text()))
