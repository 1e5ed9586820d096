"""The recipe for SIEMs: its template is one, and what it maps exists."""

import re
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from botocore.session import Session

from chalicelib.core.announcements import SOURCE, TYPES, Announcement
from chalicelib.core.responses import Response
from chalicelib.core.state.detections import Evidence

TEXT = (Path(__file__).parents[2] / "docs" / "operate" / "siem.md").read_text(encoding="utf-8")
(TEMPLATE,) = map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL))


def test_the_rule_of_the_template_matches_announcements_and_writes_a_line_for_each() -> None:
    rule = TEMPLATE["Resources"]["Announcements"]["Properties"]
    assert rule["EventPattern"] == {"source": [SOURCE]}
    (target,) = rule["Targets"]
    assert target["InputTransformer"] == {"InputPathsMap": {"detail": "$.detail"}, "InputTemplate": "<detail>\n"}


def test_every_resource_that_the_template_names_is_in_it() -> None:
    named = re.findall(r"'Fn::GetAtt': \[(\w+), Arn\]", TEXT)
    assert set(named) <= set(TEMPLATE["Resources"])


def mapping(name: str) -> dict[str, str]:
    """Returns where the fields of a format come from: the second column of its table by the first."""
    section = TEXT.partition(f"\n## As {name}")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*) \| (.*) \|$", section, re.MULTILINE)
    assert len(rows) > 8
    return dict(rows)


def test_what_is_mapped_to_ocsf_exists() -> None:
    names = {name for cell in mapping("OCSF").values() for name in re.findall(r"`([A-Za-z_. ]+)`", cell)}
    known = {*Announcement.__struct_fields__, *TYPES, *Response}
    assert names - known == {"evidence.first_ms", "evidence.last_ms"}
    assert {"first_ms", "last_ms"} <= set(Evidence.__struct_fields__)


def test_a_finding_for_security_hub_has_what_it_requires_and_what_is_mapped_exists() -> None:
    mapped = mapping("ASFF")
    fields = {name for cell in mapped for name in re.findall(r"`(\w+)`", cell)}
    # Each is required, according to the service's own description.
    finding: Any = Session().get_service_model("securityhub").shape_for("AwsSecurityFinding")
    assert set(finding.required_members) <= fields <= set(finding.members)
    names = {name for cell in mapped.values() for name in re.findall(r"`([A-Za-z_. ]+)`", cell)}
    known = {*Announcement.__struct_fields__, *TYPES}
    assert names - known == {"account", "detail", "HIGH", "ACTIVE", "ARCHIVED"}
    states = finding.members["RecordState"]
    assert {"ACTIVE", "ARCHIVED"} == set(states.enum)
