"""Every reason has words and a remedy, which documents repeat."""

import pytest

from chalicelib.admin.malformed import EXPLANATIONS, fault, remedy
from chalicelib.core.logs.malformed_counts import MalformedCount
from chalicelib.core.logs.requests import Reason


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_explained(reason: Reason) -> None:
    assert reason in EXPLANATIONS
    count = MalformedCount(reason=str(reason), number=1)
    assert fault(count).startswith(("1 line has ", "1 record has "))
    assert not remedy(count).endswith(".")


@pytest.mark.parametrize(
    ("source", "found", "expected", "words"),
    [
        ("cloudfront", 12, 9, "3,000 lines have 12 fields where CLOUDFRONT_FIELDS names 9"),
        ("cloudfront", None, 9, "3,000 lines have another number of fields where CLOUDFRONT_FIELDS names 9"),
        ("cloudfront-standard", 1, 33, "3,000 lines have 1 field where the #Fields line names 33"),
        ("load-balancer", 3, 29, "3,000 lines have 3 fields where 29 are expected"),
        ("waf", None, None, "3,000 lines have only some of the required fields"),
        (None, None, None, "3,000 lines have none of the known formats"),
        ("of-a-newer-version", None, None, "3,000 lines have only some of the required fields"),
    ],
)
def test_a_wrong_number_of_fields_is_told(
    source: str | None, found: int | None, expected: int | None, words: str
) -> None:
    count = MalformedCount(source=source, reason="fields", number=3000, found=found, expected=expected)
    assert fault(count) == words
    assert ("CLOUDFRONT_FIELDS" in remedy(count)) == (source in ("cloudfront", None))


def test_a_reason_of_a_newer_version_is_shown_as_unknown() -> None:
    assert fault(MalformedCount(reason="new", number=2)) == "2 lines have a fault that this version does not know (new)"
