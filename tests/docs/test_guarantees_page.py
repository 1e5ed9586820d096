"""The guarantees, the threat model and the page about testing name tests that exist; the architecture, places."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.chaos.breaks import BREAKS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (G\d+) (.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
TESTING = (ROOT / "docs" / "development" / "testing.md").read_text(encoding="utf-8")
THREATS = (ROOT / "docs" / "development" / "threats.md").read_text(encoding="utf-8")
PROOFS = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE + TESTING + THREATS)))
PLACES = sorted(set(re.findall(r"`((?:app|bench|chalicelib|docs|sluice|tests|\.chalice)[/.][\w./-]*)`", PAGE)))
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
LAYERS = re.findall(r"^((?:app|bench|chalicelib|sluice|tests)[\w./]*)  ", ARCHITECTURE, re.MULTILINE)
NAMED = re.findall(r"`((?:chalicelib|docs|sluice|tests|\.chalice)/[\w./-]+)`", ARCHITECTURE)


@cache
def functions(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_every_guarantee_has_a_section_with_a_proof() -> None:
    assert list(SECTIONS) == [f"G{number}" for number in range(1, 12)]
    assert all("*Proof.*" in section for section in SECTIONS.values())


def test_every_guarantee_broken_on_purpose_is_described() -> None:
    assert {each.guarantee for each in BREAKS} <= set(SECTIONS)


@pytest.mark.parametrize(("path", "function"), PROOFS, ids=[function for _, function in PROOFS])
def test_every_named_test_exists(path: str, function: str) -> None:
    assert function in functions(path)


def test_every_named_scenario_exists() -> None:
    for name in re.findall(r"::test_scenario` \(`([\w-]+)`\)", PAGE):
        assert (ROOT / "tests" / "scenarios" / name / "story.md").exists(), name


@pytest.mark.parametrize("place", sorted({*PLACES, *LAYERS, *NAMED}))
def test_every_named_place_exists(place: str) -> None:
    assert (ROOT / place).exists(), place
