"""``sluice gather``, as an operator types it."""

import json

import pytest
from click.testing import CliRunner, Result

from chalicelib.core.state.blocks import Block
from chalicelib.edges.state_table import StateTable
from chalicelib.ports import Item, Put
from sluice.cli import main
from tests.support.deploy.account import World


@pytest.fixture
def store(world: World) -> StateTable:
    stage = world.stage()
    world.set_up(stage)
    return StateTable(world.account.client("dynamodb"), stage.state_table)


def run(world: World, *arguments: str, typed: str = "") -> Result:
    return CliRunner().invoke(main, ["gather", *arguments], input=typed, obj=world.account)


def test_blocks_are_moved_to_where_version_0_2_finds_them_after_a_question(world: World, store: StateTable) -> None:
    networks = ["192.0.2.1/32", "192.0.2.2/32"]
    store.write(
        [
            Put(Item(kind=Block.kind, id=network, body=Block(network=network, blocked_at=1, until=2).to_json()))
            for network in networks
        ]
    )
    assert run(world, typed="n\n").exit_code == 1
    assert store.unspread(Block.kind, 9) == []
    moved = run(world, typed="y\n")
    assert (moved.exit_code, moved.stdout.splitlines()[-1]) == (0, "2 records moved.")
    assert [item.id for item in store.unspread(Block.kind, 9)] == networks
    assert json.loads(run(world, "--yes", "--json").stdout) == {"stage": "prod", "moved": 0}


def test_a_stage_that_does_not_exist_is_an_error(world: World) -> None:
    refused = run(world, "--stage", "elsewhere")
    assert refused.exit_code == 1
    assert "there is no stage 'elsewhere'" in refused.stderr
