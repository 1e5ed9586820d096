"""``sluice cost``, without credentials and without a region."""

import json
import re

import pytest
from click.testing import CliRunner, Result

from sluice.cli import main
from sluice.deploy.costs import SOURCES, load_of, monthly_costs, total


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)


def cost(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["cost", "--requests-per-second", "1000", *arguments])


def test_without_a_source_all_logs_are_compared() -> None:
    rows = {line.split()[0]: line.split()[1] for line in cost().output.splitlines()[1:]}
    assert rows == {name: f"{total(monthly_costs(load_of(name, 1000))):,.2f}" for name in SOURCES}
    answer = json.loads(cost("--json").stdout)
    assert [row["source"] for row in answer["sources"]] == [*SOURCES]


@pytest.mark.parametrize("source", SOURCES)
def test_the_items_of_a_bill_add_up(source: str) -> None:
    answer = json.loads(cost("--source", source, "--json").stdout)
    assert sum(item["usd"] for item in answer["items"]) == pytest.approx(answer["usd_a_month"], abs=0.1)
    shown = cost("--source", source).output
    match = re.search(r"^total +([\d,.]+)$", shown, re.MULTILINE)
    assert match is not None
    assert float(match[1].replace(",", "")) == answer["usd_a_month"]
    assert answer["attack"]["usd"] > 0
    assert f"adds {answer['attack']['usd']:,.2f} USD per hour" in shown


def test_the_rate_that_a_new_stream_accepts_is_shown() -> None:
    assert "A new on-demand stream accepts 4,000 lines per second" in cost("--source", "cloudfront").output
    assert "3 shards accept 3,000 lines per second" in cost("--source", "cloudfront", "--shards", "3").output
    assert json.loads(cost("--source", "s3", "--json").stdout)["lines_per_second_at_first"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--source", "waf", "--sample-rate", "50"), "only CloudFront samples its log"),
        (("--source", "s3", "--shards", "2"), "not to objects in S3"),
        (("--source", "nginx"), "'nginx' is not one of 'cloudfront'"),
    ],
)
def test_choices_that_do_not_fit_are_wrong_usage(arguments: tuple[str, ...], message: str) -> None:
    done = cost(*arguments)
    assert done.exit_code == 2
    assert message in done.output
