"""Parsing of bodies and queries, and the messages of msgspec that it relies on."""

import msgspec
import pytest

from chalicelib.admin.errors import Invalid
from chalicelib.admin.schemas import NewBlock, NewBlocks
from chalicelib.api.parsing import parse_body


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"blocks": [{"block_for": "1h"}]}, "Object missing required field `network` - at `$.blocks[0]`"),
        ({"x": 1}, "Object contains unknown field `x`"),
        ({"blocks": [{"network": 1, "block_for": "1h"}]}, "Expected `str`, got `int` - at `$.blocks[0].network`"),
        ({"blocks": "x"}, "Expected `array`, got `str` - at `$.blocks`"),
    ],
)
def test_msgspec_still_words_the_messages_that_parsing_translates(value: object, message: str) -> None:
    with pytest.raises(msgspec.ValidationError) as raised:
        msgspec.convert(value, NewBlocks)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"blocks": [{"block_for": "1h"}]}', "blocks[0].network"),
        (b'{"blocks": [{"network": "192.0.2.1", "block_for": "1h"}], "x": 1}', "x"),
        (b'{"blocks": [{"network": "192.0.2.1", "block_for": 1}]}', "blocks[0].block_for"),
        (b'{"blocks": "x"}', "blocks"),
        (b'{"network": "192.0.2.1"}', "block_for"),
        (b"{}", "network"),
    ],
)
def test_the_form_is_chosen_by_the_fields_of_the_body(body: bytes, field: str) -> None:
    with pytest.raises(Invalid) as raised:
        parse_body(body, (NewBlock, NewBlocks))
    assert [fault.field for fault in raised.value.faults] == [field]


@pytest.mark.parametrize("name", ["x` - at `$.y", "x` - at `$.blocks[3].y", "x` - at `$[7]"])
def test_an_unknown_field_that_imitates_a_path_is_invalid(name: str) -> None:
    with pytest.raises(Invalid) as raised:
        parse_body(msgspec.json.encode({"network": "192.0.2.1", "block_for": "1h", name: 1}), (NewBlock, NewBlocks))
    assert "unknown" in raised.value.faults[0].accepted
