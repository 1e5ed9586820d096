"""Links, commands and examples in the documents are correct."""

import re
from pathlib import Path

import pytest

from chalicelib.core.rules_toml import parse_rules

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def test_the_rule_in_the_readme_is_valid() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert [rule.name for rule in parse_rules(text).rules] == ["login"]


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_link_has_a_target(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make ([a-z]+)", (ROOT / "README.md").read_text()):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_all_that_the_checks_need_is_installed_by_make_dev() -> None:
    """So that after it, `make check` works without a network."""
    makefile = (ROOT / "Makefile").read_text()
    (tools,) = re.findall(r"^TOOLS = (.*)$", makefile, re.MULTILINE)
    assert re.search(r"^dev: \$\(TOOLS\)", makefile, re.MULTILINE)
    (checks,) = re.findall(r"^check: ([a-z ]+) ##", makefile, re.MULTILINE)
    for target in checks.split():
        ((needs),) = re.findall(rf"^{target}: (.+?)(?: ##.*)?$", makefile, re.MULTILINE)
        assert set(re.findall(r"\$\((\w+)\)", needs)) <= {"TOOLS", *re.findall(r"\$\((\w+)\)", tools)}, target
