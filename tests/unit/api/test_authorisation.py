"""Authorisation of every route: without a token, with an invalid or expired one, as a viewer and as an operator."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from chalice.app import ChaliceAuthorizer

import app
from chalicelib.api.mount import caller_of
from chalicelib.api.problems import Rejected
from chalicelib.core.tokens import PREFIX, Role, Token, TokensError, bearer, check, issue, load_tokens
from chalicelib.edges.tokens import FileTokens
from chalicelib.ports import Unavailable
from tests.support.admin_api import Desk

OPEN = {"/", "/page/{name}", "/healthz", "/openapi.json"}
ROUTES = [(method, path) for path, entries in app.app.routes.items() for method in entries]
GUARDED = [(method, path) for method, path in ROUTES if path not in OPEN]
VIEWERS = {(method, path) for method, path in GUARDED if method == "GET"} | {("POST", "/v1/rules/plan")}


def test_exactly_the_routes_under_v1_are_guarded() -> None:
    assert {path for _, path in GUARDED} == {path for _, path in ROUTES if path.startswith("/v1/")}
    for method, path in ROUTES:
        guard = app.app.routes[path][method].authorizer
        assert (guard is None) if path in OPEN else isinstance(guard, ChaliceAuthorizer), (method, path)


@pytest.fixture
def holders(desk: Desk) -> Desk:
    desk.token("late", Role.OPERATOR, lives_s=60)
    desk.token("gone", Role.OPERATOR)
    del desk.tokens[-1]
    desk.secrets |= {"forged": PREFIX + "A" * 43, "cut": desk.secrets["alice"][:-1], "odd": "\u00e9\u2603"}
    desk.clock.wait_until(desk.clock.now() + 60)
    return desk


@pytest.mark.parametrize(("method", "path"), GUARDED)
@pytest.mark.parametrize("holder", [None, "late", "gone", "forged", "cut", "odd"])
def test_a_call_without_a_valid_token_reveals_and_changes_nothing(
    holders: Desk, method: str, path: str, holder: str | None
) -> None:
    changes = len(holders.cloud.state.changes)
    reply = holders.call(method, path, {}, by=holder)
    assert (reply.status, reply.json) == (401, {"message": "Unauthorized"})
    assert len(holders.cloud.state.changes) == changes


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_a_viewer_may_read_but_not_change(desk: Desk, method: str, path: str) -> None:
    changes = len(desk.cloud.state.changes)
    reply = desk.call(method, path, None if method in ("GET", "DELETE") else {}, by="wallboard")
    if (method, path) in VIEWERS:
        assert reply.status not in (401, 403)
    else:
        assert (reply.status, reply.json["type"]) == (403, "urn:sluice:problem:role")
        assert "operator" in reply.json["detail"]
    assert len(desk.cloud.state.changes) == changes


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_an_operator_may_call_every_route(desk: Desk, method: str, path: str) -> None:
    assert desk.call(method, path, None if method in ("GET", "DELETE") else {}).status not in (401, 403)


def test_the_roles_match_the_openapi_document(openapi: Any) -> None:
    documented = {
        (method.upper(), path): entry.get("x-role")
        for path, item in openapi["paths"].items()
        for method, entry in item.items()
    }
    assert documented == {
        (method, path): None if path in OPEN else "viewer" if (method, path) in VIEWERS else "operator"
        for method, path in ROUTES
    }


@pytest.mark.parametrize("scheme", ["Basic {}", "{}", "Bearer", "Token {}", "Bearer  ", "Bearer {} x"])
def test_only_a_bearer_token_is_accepted(desk: Desk, scheme: str) -> None:
    header = scheme.format(desk.secrets["alice"])
    assert desk.call("GET", "/v1/me", by=None, headers={"Authorization": header}).status == 401


def test_the_scheme_is_case_insensitive(desk: Desk) -> None:
    header = f"bearer {desk.secrets['alice']}"
    assert desk.call("GET", "/v1/me", by=None, headers={"Authorization": header}).json["name"] == "alice"


def test_two_tokens_of_one_name_work_side_by_side_and_a_revoked_one_does_not(desk: Desk) -> None:
    old = desk.secrets["alice"]
    new, kept = issue("alice", Role.OPERATOR, secret=bytes(range(32)), now=desk.now)
    desk.tokens.append(kept)
    for token in (old, new):
        desk.secrets["any"] = token
        assert desk.call("GET", "/v1/me", by="any").json["name"] == "alice"
    revoked = check(old, desk.tokens, desk.now)
    desk.tokens = [token for token in desk.tokens if token != revoked]
    desk.secrets["any"] = old
    assert desk.call("GET", "/v1/me", by="any").status == 401


def test_there_is_no_default_credential(desk: Desk) -> None:
    desk.tokens.clear()
    assert desk.call("GET", "/v1/me").status == 401


def test_no_caller_is_admitted_while_the_tokens_cannot_be_read(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(list[Token]):
        def __iter__(self) -> Iterator[Token]:
            raise Unavailable("read /sluice/tokens: AccessDenied")

    desk.tokens = Broken(desk.tokens)
    reply = desk.call("GET", "/v1/me")
    assert (reply.status, reply.json) == (500, {"message": None})


def test_no_token_reaches_state_answers_or_logs(
    desk: Desk, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    for path, query in (("/v1/me", {}), ("/v1/audit", {}), ("/v1/blocks", {"bad": 1}), ("/v1/top", {"rule": "x"})):
        reply = desk.call("GET", path, **query)
        assert desk.secrets["alice"] not in reply.text
    desk.call("PUT", "/v1/allowlist", {"network": "192.0.2.1"}, headers={"Idempotency-Key": "k"})
    stored = repr(desk.cloud.state._items)
    out = capsys.readouterr()
    for secret in (desk.secrets["alice"], desk.secrets["alice"].removeprefix(PREFIX)):
        assert secret not in stored + caplog.text + out.out + out.err
    assert not any(desk.secrets["alice"] in repr(token) for token in desk.tokens)


def test_a_token_is_stored_as_a_hash_and_recognised_by_its_prefix() -> None:
    text, kept = issue("ci", Role.VIEWER, secret=bytes(32), now=5, expires_at=9)
    assert text.startswith(PREFIX)
    assert len(text) == len(PREFIX) + 43
    assert kept == Token(name="ci", role=Role.VIEWER, hash=kept.hash, created_at=5, expires_at=9)
    assert check(text, [kept], 8) == kept
    assert check(text, [kept], 9) is None
    assert check("x" * 10_000, [kept], 8) is None


@pytest.mark.parametrize("name", ["", "x" * 65, "a\nb", "\u202e"])
def test_a_name_that_cannot_be_displayed_is_rejected(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        issue(name, Role.VIEWER, secret=bytes(32), now=0)


def test_a_short_secret_is_rejected() -> None:
    with pytest.raises(ValueError, match="32 are needed"):
        issue("a", Role.VIEWER, secret=b"guessable", now=0)


def test_an_error_about_broken_tokens_reveals_none_of_them() -> None:
    with pytest.raises(TokensError) as raised:
        load_tokens('[{"name": "alice", "hash": "c0ffee"')
    assert "c0ffee" not in str(raised.value)


def test_an_empty_header_has_no_bearer_token() -> None:
    assert bearer("") == ""


CONTEXT = {"identity": {"sourceIp": "192.0.2.1", "userArn": "arn:aws:iam::1:user/ann"}, "requestId": "r-1"}


def test_with_iam_the_caller_is_named_by_its_arn() -> None:
    caller = caller_of(CONTEXT, "iam")
    assert (caller.name, caller.role, caller.address) == ("arn:aws:iam::1:user/ann", Role.OPERATOR, "192.0.2.1")


@pytest.mark.parametrize(
    ("context", "mode"),
    [
        pytest.param({}, "token", id="nothing"),
        pytest.param({}, "iam", id="nothing, with IAM"),
        pytest.param(CONTEXT, "token", id="an ARN with ADMIN_AUTH=token"),
        pytest.param({"authorizer": {"name": "a", "role": "root"}}, "token", id="an unknown role"),
        pytest.param({"authorizer": {"name": "a", "role": "operator"}}, "iam", id="a token with ADMIN_AUTH=iam"),
    ],
)
def test_a_caller_that_api_gateway_did_not_authenticate_is_rejected(context: Mapping[str, Any], mode: str) -> None:
    with pytest.raises(Rejected) as raised:
        caller_of(context, mode)
    assert raised.value.kind.status == 401


IAM = """
import app
from chalice.app import IAMAuthorizer
guarded = [entry for path, methods in app.app.routes.items() if path.startswith("/v1/") for entry in methods.values()]
assert len(guarded) > 15 and all(isinstance(entry.authorizer, IAMAuthorizer) for entry in guarded)
assert not app.app.builtin_auth_handlers
assert all(entry.cors.get_access_control_headers()["Access-Control-Allow-Origin"] == "https://ops.example.com"
           for entry in guarded)
"""


@pytest.mark.slow
def test_iam_and_cors_are_settings_of_the_deployment() -> None:
    environment = {"ADMIN_AUTH": "iam", "CORS_ORIGIN": "https://ops.example.com", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", IAM], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_cors_is_closed_unless_configured(desk: Desk) -> None:
    assert desk.call("OPTIONS", "/v1/blocks").status == 403
    reply = desk.call("GET", "/v1/me", headers={"Origin": "https://evil.example"})
    assert not [name for name in reply.headers if name.lower().startswith("access-control")]


AUTHORIZE = """
import json, sys
from app import authorize
arn = "arn:aws:execute-api:us-east-1:1:api/stage/GET/v1/me"
print(json.dumps(authorize({"type": "TOKEN", "authorizationToken": sys.argv[1], "methodArn": arn}, None)))
"""


def run_authorizer(tmp_path: Path, header: str) -> subprocess.CompletedProcess[str]:
    """Runs the authorizer as Lambda does: as a function of its own, without the app."""
    environment = {"TOKENS_FILE": str(tmp_path / "tokens"), "AWS_DEFAULT_REGION": "us-east-1", "PATH": ""}
    command = [sys.executable, "-c", AUTHORIZE, header]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_deployed_authorizer_checks_tokens_on_its_own(tmp_path: Path) -> None:
    text, kept = issue("alice", Role.OPERATOR, secret=bytes(32), now=0)
    FileTokens(tmp_path / "tokens").write([kept])
    policy = json.loads(run_authorizer(tmp_path, f"Bearer {text}").stdout)
    assert policy["context"] == {"name": "alice", "role": "operator"}
    assert policy["policyDocument"]["Statement"][0]["Resource"] == ["arn:aws:execute-api:us-east-1:1:api/stage/*/*"]
    assert text not in json.dumps(policy)


@pytest.mark.slow
def test_the_deployed_authorizer_fails_with_the_word_that_api_gateway_answers_401_to(tmp_path: Path) -> None:
    done = run_authorizer(tmp_path, "Bearer sluice_nobody")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(": Unauthorized")
    assert "sluice_nobody" not in done.stderr


def test_no_token_has_the_name_under_which_a_feed_allows_and_blocks() -> None:
    with pytest.raises(ValueError, match="begins with 'feed ', which is reserved for feeds"):
        issue("feed bingbot", Role.OPERATOR, secret=bytes(32), now=5)
    assert issue("feedback", Role.OPERATOR, secret=bytes(32), now=5)[1].name == "feedback"
