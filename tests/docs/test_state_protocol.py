"""The samples and field tables of the state protocol are those of the code."""

import json
import re
from base64 import b64decode
from pathlib import Path

import msgspec
import pytest
from msgspec import inspect

from chalicelib.core.logs.malformed_counts import MalformedCount, pack_counts, unpack_counts
from chalicelib.core.state.records import StateRecord
from chalicelib.core.tally import VERSION, unpack
from chalicelib.edges.roll_up_table import attributes_of_roll_up, roll_up_of
from chalicelib.edges.state_table import attributes_of, item_of
from chalicelib.edges.tally_table import POSITION, REGISTRY, _receipt_attributes
from chalicelib.ports import LogObject, PartReceipt
from tests.support.state_classes import CLASSES

TEXT = (Path(__file__).parents[2] / "docs" / "state-protocol.md").read_text(encoding="utf-8")
SAMPLES = [
    json.loads(sample) for sample in re.findall(r"```json\n(.*?)```", TEXT.partition("### Records")[0], re.DOTALL)
]
SECTIONS = dict(re.findall(r"^#### (\w+)\n(.*?)(?=^##)", TEXT, re.MULTILINE | re.DOTALL))


def words(kind: inspect.Type) -> str:
    """Returns a field's type as the page writes it."""
    match kind:
        case inspect.Metadata(type=inner):
            return words(inner)
        case inspect.UnionType(types=types):
            return " or ".join(map(words, types))
        case inspect.StructType(cls=cls) | inspect.DataclassType(cls=cls):
            return cls.__name__
        case inspect.VarTupleType(item_type=inner) | inspect.ListType(item_type=inner):
            return f"array of {words(inner)}"
        case inspect.DictType(value_type=inner):
            return f"object of {words(inner)}"
    names = {
        "StrType": "string",
        "EnumType": "string",
        "IntType": "integer",
        "BoolType": "boolean",
        "BytesType": "bytes",
    }
    return {**names, "NoneType": "null", "AnyType": "any"}[type(kind).__name__]


def default(field: inspect.Field) -> str:
    if field.required:
        return ""
    made = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return f"`{msgspec.json.encode(made).decode()}`"


def fields(cls: type) -> list[list[str]]:
    info = inspect.type_info(cls)
    assert isinstance(info, inspect.StructType | inspect.DataclassType)
    return [[f"`{field.encode_name}`", words(field.type), default(field)] for field in info.fields]


@pytest.mark.parametrize("name", SECTIONS)
def test_a_records_table_lists_its_fields_types_and_defaults(name: str) -> None:
    rows = re.findall(r"^\| (`.*) \|$", SECTIONS[name], re.MULTILINE)
    assert [[cell.strip() for cell in row.split("|")][:3] for row in rows] == fields(CLASSES[name])


def records(base: type[StateRecord] = StateRecord) -> set[type[StateRecord]]:
    """Returns the classes of the state that items are stored as: those without subclasses."""
    below = [cls for cls in base.__subclasses__() if cls is CLASSES.get(cls.__name__)]
    return set().union(*map(records, below)) if below else {base}


def test_every_record_of_the_state_table_is_documented() -> None:
    assert {cls.__name__ for cls in records()} <= set(SECTIONS)
    table, _, _ = TEXT.partition("### Records")
    documented = set(re.findall(r"^\| `([\w-]+)` \|.*\[\w+\]\(#\w+\)", table, re.MULTILINE))
    assert documented == {cls.kind for cls in records()}


@pytest.mark.parametrize("name", [name for name, section in SECTIONS.items() if "```json" in section])
def test_a_records_sample_is_its_json_with_every_field(name: str) -> None:
    (sample,) = re.findall(r"```json\n(.*)\n```", SECTIONS[name])
    record = CLASSES[name]
    assert record.from_json(sample.encode()).to_json().decode() == sample


@pytest.mark.parametrize("name", sorted(cls.__name__ for cls in records()))
def test_every_record_has_a_sample(name: str) -> None:
    assert "```json" in SECTIONS[name]


def test_the_sample_tally_item_unpacks_to_the_sample_tally() -> None:
    tally_item, _, _, _, _, columns, _ = SAMPLES
    (counted,) = unpack(b64decode(tally_item["body"]["B"]))
    (source, topic, ipv4, ipv6, slot_ms, first, keys4, keys16, per_key, slots, counts) = columns[0]
    assert len(per_key) == 2
    entries = [(first + slot, number) for slot, number in zip(slots, counts, strict=True)]
    clients = {
        bytes.fromhex(keys4): dict(entries[: per_key[0]]),
        bytes.fromhex(keys16): dict(entries[per_key[0] :]),
    }
    meter = (counted.source, counted.topic.hex(), counted.ipv4_prefix, counted.ipv6_prefix, counted.slot_ms)
    assert (*meter, counted.clients()) == (source, topic, ipv4, ipv6, slot_ms, clients)
    assert tally_item["v"]["N"] == str(VERSION)
    assert tally_item["requests"]["N"] == str(sum(counts))


def test_the_sample_of_malformed_pieces_and_its_table_have_every_stored_field() -> None:
    packed = SAMPLES[0]["malformed"]["S"]
    (count,) = unpack_counts(packed)
    assert pack_counts((count,)) == packed
    stored = [name.strip("`") for name, _, _ in fields(MalformedCount)]
    # The sample has another fault than a named one, and is of a record.
    assert list(json.loads(packed)[0]) == [name for name in stored if name not in ("name", "where")]
    section = TEXT.partition("### Malformed pieces")[2].partition("### ")[0]
    rows = [
        [cell.strip() for cell in row.split("|")][:3] for row in re.findall(r"^\| (`.*) \|$", section, re.MULTILINE)
    ]
    assert rows == fields(MalformedCount)


def test_the_sample_registry_and_state_items_are_as_stored() -> None:
    tally_item, registry, position, receipt, roll_up, _, state_item = SAMPLES
    assert registry["log"]["S"] == REGISTRY
    assert tally_item["log"] in registry["sluice-logs/shardId-000000000000"]["L"]
    assert position["log"]["S"] == POSITION
    _, bucket, etag, key = receipt["log"]["S"].split("/", 3)
    part = PartReceipt(
        object=LogObject(bucket, key, etag),
        start=int(receipt["offset"]["N"]),
        end=int(receipt["end"]["N"]),
        written_ms=int(tally_item["written_at"]["N"].replace(".", "")),
    )
    assert _receipt_attributes(part) == receipt
    stored = roll_up_of(roll_up)
    assert attributes_of_roll_up(stored, stored.digest, stored.bodies) == roll_up
    following = int(tally_item["offset"]["N"]) + 1
    assert position["logs"]["M"] == {tally_item["log"]["S"]: {"N": str(following)}}
    assert attributes_of(item_of(state_item)) == state_item
