"""Each call of the API becomes the command that makes it."""

from typing import Any

import msgspec
import pytest

from chalicelib.core.state.operators import Call
from sluice.undo import commands


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        pytest.param(
            {"method": "POST", "path": "/v1/blocks", "body": {"network": "192.0.2.1/32", "block_for": "1h"}},
            ["sluice block 192.0.2.1/32 --for 1h"],
            id="one block",
        ),
        pytest.param(
            {
                "method": "POST",
                "path": "/v1/blocks",
                "body": {
                    "blocks": [
                        {"network": "192.0.2.1/32", "block_for": "1h", "comment": "$(rm -rf /)", "force": True},
                        {"network": "192.0.2.2/32", "block_for": "2h", "comment": "", "force": True},
                        {"network": "192.0.2.3/32", "block_for": "1h", "comment": "$(rm -rf /)", "force": True},
                    ]
                },
            },
            [
                "sluice block 192.0.2.1/32 192.0.2.3/32 --for 1h --comment '$(rm -rf /)' --force",
                "sluice block 192.0.2.2/32 --for 2h --force",
            ],
            id="blocks of two lengths, and a comment that needs quoting",
        ),
        pytest.param(
            {
                "method": "POST",
                "path": "/v1/blocks",
                "body": {
                    "blocks": [
                        {"network": "192.0.2.1/32", "block_for": "1h", "respond": "challenge"},
                        {"network": "192.0.2.2/32", "block_for": "1h", "respond": "block"},
                    ]
                },
            },
            ["sluice block 192.0.2.2/32 --for 1h", "sluice block 192.0.2.1/32 --for 1h --respond challenge"],
            id="blocks of two responses",
        ),
        pytest.param(
            {
                "method": "PUT",
                "path": "/v1/allowlist",
                "body": {
                    "entries": [
                        {"network": "192.0.2.1/32", "comment": "", "expires_at": None, "force": True},
                        {"network": "192.0.2.2/32", "rules": ["burst", "crawl"], "comment": "partner", "force": True},
                        {"network": "192.0.2.3/32", "force": True},
                    ],
                    "remove": ["192.0.2.4/32"],
                },
            },
            [
                "sluice disallow 192.0.2.4/32",
                "sluice allow 192.0.2.1/32 192.0.2.3/32 --force",
                "sluice allow 192.0.2.2/32 --comment partner --rule burst --rule crawl --force",
            ],
            id="entries of the allowlist, two alike and one for some rules, and a network that had none",
        ),
        pytest.param(
            {
                "method": "DELETE",
                "path": "/v1/blocks",
                "query": {"network": ["192.0.2.1/32", "192.0.2.2/32"], "forget": ["true"]},
            },
            ["sluice unblock 192.0.2.1/32 192.0.2.2/32 --forget"],
            id="unblock",
        ),
        pytest.param(
            {
                "method": "POST",
                "path": "/v1/rules/rollback",
                "headers": {"If-Match": '"8"'},
                "body": {"version": 6},
            },
            ["sluice rules rollback 6 --if-version 8"],
            id="rollback of this change, but of no later one",
        ),
        pytest.param(
            {"method": "POST", "path": "/v1/pause", "body": {"release": True}}, ["sluice pause --release"], id="pause"
        ),
        pytest.param(
            {"method": "POST", "path": "/v1/pause", "body": {"release": False, "until": 1790000000, "comment": "a b"}},
            ["sluice pause --until 1790000000 --comment 'a b'"],
            id="a pause with an end and a reason",
        ),
        pytest.param({"method": "POST", "path": "/v1/resume", "body": {}}, ["sluice resume"], id="resume"),
    ],
)
def test_the_command_makes_the_call(call: dict[str, Any], expected: list[str]) -> None:
    assert commands(msgspec.convert(call, Call)) == expected


def test_a_call_without_a_command_is_an_error() -> None:
    with pytest.raises(ValueError, match="no command makes the call PATCH /v1/blocks"):
        commands(Call(method="PATCH", path="/v1/blocks"))
