"""The references in ``docs/reference`` are complete and current."""

import ast
import re
from collections.abc import Callable, Iterator

import pytest

import app
from chalicelib.admin.malformed import EXPLANATIONS
from chalicelib.config import SETTINGS
from chalicelib.core.decisions import Outcome
from chalicelib.core.logs.requests import Reason
from chalicelib.core.paths import STATIC_ENDINGS
from chalicelib.core.rules_toml import RulesError, parse_rules
from chalicelib.edges import telemetry
from chalicelib.pipeline.enforce import BREAKER, PACE, PAUSED, SPARED
from sluice.cli import COMMANDS
from tests.docs.references import PAGES, REFERENCE, ROOT

FUNCTIONS = {
    "ingested": "ingest",
    "imported": "import_objects",
    "evaluated": "evaluate",
    "enforced": "enforce",
    "announced": "enforce",
    "published": "publish",
    "swept": "sweep",
    "fed": "sweep",
    "rolled_up": "sweep",
    "trended": "sweep",
}
"""Reports of the telemetry, and the functions that make them."""


def text(page: str) -> str:
    return (REFERENCE / page).read_text(encoding="utf-8")


def rows(page: str, head: str = "") -> Iterator[list[str]]:
    """Returns the cells of the tables in a page; with ``head``, of the table that begins with it."""
    for table in re.findall(
        r"^\|.*\n\|[-|]+\n((?:\|.*\n)*)", text(page).partition(head)[2] if head else text(page), re.MULTILINE
    ):
        yield from ([cell.strip() for cell in line.strip("| \n").split("|")] for line in table.splitlines())
        if head:
            return


@pytest.mark.parametrize(("page", "made"), PAGES.items(), ids=PAGES)
def test_a_generated_page_is_current(page: str, made: Callable[[], str]) -> None:
    assert text(page) == made(), f"{page} is out of date: run 'python -m tests.docs.references'"


def test_every_command_is_documented() -> None:
    assert set(COMMANDS) <= set(re.findall(r"^### sluice (\w+)$", text("cli.md"), re.MULTILINE))


def test_every_setting_is_documented() -> None:
    assert [f"`{setting.variable}`" for setting in SETTINGS.values()] == [row[0] for row in rows("settings.md")]


def test_every_route_is_documented() -> None:
    documented = set(re.findall(r"^### ([A-Z]+) (/.*)$", text("api.md"), re.MULTILINE))
    assert documented == {(method, path) for path, entries in app.app.routes.items() for method in entries}


def known_keys(table: str, title: str = "[[rule]]") -> set[str]:
    """Returns the keys that a table accepts, as its error for an unknown one lists them."""
    with pytest.raises(RulesError) as refused:
        parse_rules(f"{title}\n{table}")
    (listed,) = re.findall(r"'zzzz'; known keys: (.*)", str(refused.value))
    return set(listed.split(", "))


def test_every_rule_key_is_documented() -> None:
    keys = known_keys("zzzz = 1")
    for key in ("aggregate", "bucket", "escalate", "scope"):
        keys |= {f"{key}.{inner}" for inner in known_keys(f"{key} = {{ zzzz = 1 }}")}
    keys |= {f"networks.{inner}" for inner in known_keys("zzzz = 1", "[networks]")}
    keys |= {f"feeds.{inner}" for inner in known_keys("zzzz = 1", "[feeds.bot]")}
    assert keys == {row[0].strip("`") for row in rows("rules.md")}


def test_the_documented_defaults_of_a_rule_are_its_defaults() -> None:
    least = 'name = "r"\nlimit = 1\nwindow = "10s"\n'
    said = {key.strip("`"): default for key, _, default, _ in rows("rules.md", "## Keys")}
    written = {key: default.strip("`") for key, default in said.items() if default.startswith("`")}
    texts = ("action", "block_for", "measure", "respond")
    quoted = {key: f'"{value}"' if key in texts else value for key, value in written.items()}
    explicit = least + "".join(f"{key} = {value}\n" for key, value in quoted.items())
    assert parse_rules(f"[[rule]]\n{explicit}").rules == parse_rules(f"[[rule]]\n{least}").rules
    assert set(written) == {"action", "block_for", "resolution", "aggregate", "extend", "measure", "respond"}


def test_the_documented_rule_is_valid() -> None:
    examples = re.findall(r"```toml\n(.*?)```", text("rules.md"), re.DOTALL)
    names = [[rule.name for rule in parse_rules(example).rules] for example in examples]
    assert names == [["login"], ["one-page"], ["egress"], ["copy"], ["daily"], ["pages-from-abroad"], [], []]


def test_every_static_ending_is_documented() -> None:
    (listed,) = re.findall(r"in one of: ([^.]*)\.", text("rules.md"))
    assert set(re.findall(r"\w+", listed)) == STATIC_ENDINGS


def metrics_of(method: ast.FunctionDef) -> Iterator[tuple[str, str]]:
    """Returns name and unit of each metric that a report's method adds; ``{}`` stands for a part that varies."""
    for node in ast.walk(method):
        match node:
            case ast.Call(func=ast.Name("add" | "rare"), args=[ast.Constant(str(name)), ast.Name(unit), *_]):
                yield name, unit
            case ast.Call(func=ast.Name("add" | "rare"), args=[ast.JoinedStr(values), ast.Name(unit), *_]):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in values), unit
            case ast.Call(func=ast.Name("add" | "rare")):
                pytest.fail(f"cannot find the name of the metric in line {node.lineno}")


def test_every_metric_is_documented_with_its_function_and_unit() -> None:
    assert telemetry.__file__ is not None
    source = ast.parse((ROOT / telemetry.__file__).read_text(encoding="utf-8"))
    methods = [node for node in ast.walk(source) if isinstance(node, ast.FunctionDef) and node.name in FUNCTIONS]
    assert len(methods) == len(FUNCTIONS)
    written = [(FUNCTIONS[method.name], *metric) for method in methods for metric in metrics_of(method)]
    documented = [
        (function, re.sub(r"\{\w+\}", "{}", name.strip("`")), unit)
        for function, name, unit, _ in rows("metrics.md", f"`{telemetry.NAMESPACE}`")
    ]
    assert len(written) > 20
    assert sorted(documented) == sorted(written)


def test_every_reason_and_outcome_is_documented() -> None:
    explained = {reason: EXPLANATIONS[reason] for reason in Reason}
    assert [tuple(row) for row in rows("metrics.md", "## Reasons")] == [
        (f"`{reason}`", each.fault, f"{each.remedy}.") for reason, each in explained.items()
    ]
    outcomes = [f"`{outcome}`" for outcome in (*Outcome, PAUSED, BREAKER, PACE, SPARED)]
    assert outcomes == [row[0] for row in rows("metrics.md", "## Outcomes")]
