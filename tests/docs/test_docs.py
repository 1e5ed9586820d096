"""The documents say what is so."""

import re
import tomllib
from pathlib import Path

import pytest

from chalicelib.config import SETTINGS
from chalicelib.core.rules import parse_rules

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def settings_table() -> str:
    rows = ["| variable | default | accepted | meaning |", "|---|---|---|---|"]
    for setting in SETTINGS.values():
        default = f"`{setting.default}`" if setting.default else ""
        rows.append(f"| `{setting.variable}` | {default.replace(',', ', ')} | {setting.accepted} | {setting.about} |")
    return "\n".join(rows)


def test_the_readme_lists_every_setting_as_it_is() -> None:
    _, _, rest = (ROOT / "README.md").read_text().partition("<!-- settings -->\n")
    assert rest.startswith(settings_table()), f"the table in README.md is to be:\n{settings_table()}"


def test_the_readmes_rule_is_a_rule() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert [rule.name for rule in parse_rules(text).rules] == ["login"]


def test_the_readme_names_every_rule_key() -> None:
    documented = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "README.md").read_text(), re.MULTILINE))
    shipped = tomllib.loads((ROOT / "chalicelib" / "rules.toml").read_text())["rule"]
    assert {key for rule in shipped for key in rule} <= documented


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make ([a-z]+)", (ROOT / "README.md").read_text()):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
