"""Tokens are shown once, kept as hashes, and rotated without a gap."""

import json
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from chalicelib.core.tokens import check, load_tokens
from sluice.cli import main
from tests.support.deploy.account import World


class Tokens:
    """A file of tokens, and the commands that manage it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, *words: str, exit_code: int = 0) -> Result:
        result = CliRunner().invoke(main, ["token", *words, "--file", str(self.path)])
        assert result.exit_code == exit_code, result.output
        return result

    def accepted(self, text: str, now: int = 0) -> bool:
        return check(text, load_tokens(self.path.read_text()), now) is not None


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(tmp_path / "tokens.json")


def test_a_token_is_alone_on_standard_output_and_not_in_the_file(tokens: Tokens) -> None:
    created = tokens.run("create", "alice", "--role", "operator")
    text = created.stdout.strip()
    assert tokens.accepted(text)
    assert text not in tokens.path.read_text()
    assert tokens.path.stat().st_mode & 0o077 == 0


def test_a_token_is_rotated_without_a_gap(tokens: Tokens) -> None:
    old = json.loads(tokens.run("create", "alice", "--json").stdout)
    new = json.loads(tokens.run("create", "alice", "--json").stdout)
    assert "Choose one by its id" in tokens.run("revoke", "alice", "--yes", exit_code=1).stderr
    assert tokens.accepted(old["token"])
    tokens.run("revoke", old["id"], "--yes")
    assert not tokens.accepted(old["token"])
    assert tokens.accepted(new["token"])


def test_a_token_expires_unless_it_is_created_forever(tokens: Tokens) -> None:
    short = tokens.run("create", "a", "--for", "1h").stdout.strip()
    lasting = tokens.run("create", "b", "--forever").stdout.strip()
    assert not tokens.accepted(short, now=2**33)
    assert tokens.accepted(lasting, now=2**33)


def test_the_list_names_holders_and_shows_no_hash(tokens: Tokens) -> None:
    tokens.run("create", "wallboard")
    (stored,) = load_tokens(tokens.path.read_text())
    for listed in (tokens.run("list").stdout, tokens.run("list", "--json").stdout):
        assert "wallboard" in listed
        assert stored.hash not in listed


def test_a_token_that_does_not_exist_cannot_be_revoked(tokens: Tokens) -> None:
    assert "no token 'bob'" in tokens.run("revoke", "bob", "--yes", exit_code=1).stderr


def test_a_broken_file_is_reported_without_its_content(tokens: Tokens) -> None:
    tokens.path.write_text("secret stuff")
    shown = tokens.run("list", exit_code=1).stderr
    assert "cannot be read" in shown
    assert "secret" not in shown


def test_tokens_belong_to_the_stage(world: World) -> None:
    world.set_up(world.stage())

    def token(*words: str) -> Result:
        return CliRunner().invoke(main, ["token", *words], obj=world.account)

    created = token("create", "alice", "--role", "operator")
    assert created.exit_code == 0, created.output
    stored = world.account.client("ssm").get_parameter(Name="/sluice/prod/tokens", WithDecryption=True)["Parameter"]
    assert check(created.stdout.strip(), load_tokens(stored["Value"]), 0) is not None
    assert "first operator" in token("list").stdout
    assert "alice" in token("list", "--stage", "prod").stdout


@pytest.mark.parametrize("words", [("create", "alice"), ("list",), ("revoke", "alice", "--yes")])
def test_no_parameter_is_created_that_no_stage_reads(world: World, words: tuple[str, ...]) -> None:
    refused = CliRunner().invoke(main, ["token", *words, "--stage", "staging"], obj=world.account)
    assert refused.exit_code == 1
    assert "/sluice/staging/tokens does not exist in us-east-1" in refused.stderr
    assert "sluice setup --stage staging --region us-east-1" in refused.stderr
    assert world.account.client("ssm").describe_parameters()["Parameters"] == []


def test_what_a_command_names_next_finds_the_same_store(tokens: Tokens) -> None:
    created = tokens.run("create", "alice of ops")
    (undo,) = [line for line in created.stderr.splitlines() if line.startswith("Undo with:")]
    program, group, *words = shlex.split(undo.removeprefix("Undo with:"))
    revoked = CliRunner().invoke(main, [group, *words, "--yes"])
    assert (program, group, revoked.exit_code) == ("sluice", "token", 0)
    (again,) = [line for line in revoked.stdout.splitlines() if "Create a new one:" in line]
    _, group, *words = shlex.split(again.partition("new one:")[2])
    assert CliRunner().invoke(main, [group, *words]).exit_code == 0
    (token,) = load_tokens(tokens.path.read_text())
    assert (token.name, token.role) == ("alice of ops", "viewer")
