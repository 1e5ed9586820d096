"""Records of neighbouring versions: each version reads what the other writes."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chalicelib.core.state.records import StateRecord, Unreadable
from tests.support import state_0_2
from tests.support.state_classes import CLASSES

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "state-protocol.md").read_text(encoding="utf-8")
TODAY = dict(re.findall(r"^#### (\w+)\n(?:(?!^####).)*?```json\n(.*?)\n```", PAGE, re.MULTILINE | re.DOTALL))
"""What this version writes, with every field, by class."""


def record_class(name: str) -> type[StateRecord]:
    cls: type[StateRecord] = CLASSES[name]
    return cls


@pytest.mark.parametrize("name", state_0_2.STORED)
def test_this_version_reads_the_records_of_0_2(name: str) -> None:
    id, body = state_0_2.STORED[name]
    record = record_class(name).read(id, body)
    assert not isinstance(record, Unreadable)
    assert part_of(json.loads(body), json.loads(record.to_json()))


@pytest.mark.parametrize("name", state_0_2.STORED)
def test_0_2_reads_the_records_of_this_version(name: str) -> None:
    older: Any = getattr(state_0_2, name)
    read = msgspec.json.decode(TODAY[name].encode(), type=older)
    assert part_of(msgspec.to_builtins(read), json.loads(TODAY[name]))


def part_of(some: Any, whole: Any) -> bool:
    """Returns whether each value in ``some`` has its place in ``whole``: fields by name, those of an array in order."""
    if isinstance(some, dict):
        return isinstance(whole, dict) and all(key in whole and part_of(some[key], whole[key]) for key in some)
    if isinstance(some, (list, tuple)):
        return isinstance(whole, list) and all(map(part_of, some, whole)) and len(some) <= len(whole)
    return bool(some == whole)


def test_a_field_with_another_type_or_without_its_place_is_noticed() -> None:
    assert part_of({"a": [1, 2]}, {"a": [1, 2, 3], "b": 4})
    assert not part_of({"a": [1, 2]}, {"a": [1]})
    assert not part_of({"a": 1}, {"a": "1"})
    assert not part_of({"a": 1}, {"b": 1})
