"""``sluice dev`` tells on the terminal what it does not count, and does not repeat itself."""

import io

from chalicelib.core.logs.malformed_counts import MalformedCount
from chalicelib.reports import IngestReport
from sluice.commands.dev import UncountedLines
from sluice.commands.shared.output import output


def test_each_reason_is_told_when_it_occurs_and_at_every_tenfold_number() -> None:
    file = io.StringIO()
    uncounted = UncountedLines(output(file), 3600)
    for number in (1, 1, 5, 9, 10, 50, 99, 100, 5000):
        fields = MalformedCount(source="cloudfront", reason="fields", number=number, found=1, expected=9, sample="[/x]")
        uncounted.report(IngestReport(malformed_counts=(fields,), late=number))
    told = [line for line in file.getvalue().splitlines() if line.startswith("Not counted")]
    assert [line.split()[2] for line in told if "where --fields names 9, such as a record: [/x]" in line] == [
        *("1", "10", "100", "5,000")
    ]
    assert [line.split()[2] for line in told if line.endswith("made more than 1h before being read")] == [
        *("1", "10", "100", "5,000")
    ]
    assert len(told) == 8
