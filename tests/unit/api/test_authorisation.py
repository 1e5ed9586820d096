"""Who may: every route, with no token, a bad one, an expired one, a viewer's and an operator's."""

import json
import subprocess
import sys

import pytest
from chalice.app import ChaliceAuthorizer

import app
from chalicelib.api.call import caller_of
from chalicelib.api.problems import Rejected
from chalicelib.core.tokens import PREFIX, Role, Token, TokensError, bearer, check, issue, load_tokens
from chalicelib.edges.tokens import FileTokens
from chalicelib.ports import Unavailable

OPEN = {"/", "/page/{name}", "/healthz", "/openapi.json"}
ROUTES = [(method, path) for path, entries in app.app.routes.items() for method in entries]
GUARDED = [(method, path) for method, path in ROUTES if path not in OPEN]
VIEWERS = {(method, path) for method, path in GUARDED if method == "GET"} | {("POST", "/v1/rules/plan")}


def test_every_route_but_the_page_and_its_like_is_guarded():
    assert {path for _, path in GUARDED} == {path for _, path in ROUTES if path.startswith("/v1/")}
    for method, path in ROUTES:
        guard = app.app.routes[path][method].authorizer
        assert (guard is None) if path in OPEN else isinstance(guard, ChaliceAuthorizer), (method, path)


@pytest.fixture
def holders(desk):
    desk.token("late", Role.OPERATOR, lives_s=60)
    desk.token("gone", Role.OPERATOR)
    del desk.tokens[-1]
    desk.secrets |= {"forged": PREFIX + "A" * 43, "cut": desk.secrets["alice"][:-1], "odd": "\u00e9\u2603"}
    desk.clock.wait_until(desk.clock.now() + 60)
    return desk


@pytest.mark.parametrize(("method", "path"), GUARDED)
@pytest.mark.parametrize("holder", [None, "late", "gone", "forged", "cut", "odd"])
def test_without_a_valid_token_nothing_is_told_or_changed(holders, method, path, holder):
    changes = len(holders.cloud.state.changes)
    reply = holders.call(method, path, {}, by=holder)
    assert (reply.status, reply.json) == (401, {"message": "Unauthorized"})
    assert len(holders.cloud.state.changes) == changes


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_a_viewer_may_look_and_change_nothing(desk, method, path):
    changes = len(desk.cloud.state.changes)
    reply = desk.call(method, path, None if method in ("GET", "DELETE") else {}, by="wallboard")
    if (method, path) in VIEWERS:
        assert reply.status not in (401, 403)
    else:
        assert (reply.status, reply.json["type"]) == (403, "urn:sluice:problem:role")
        assert "operator" in reply.json["detail"]
    assert len(desk.cloud.state.changes) == changes


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_an_operator_may_call_every_route(desk, method, path):
    assert desk.call(method, path, None if method in ("GET", "DELETE") else {}).status not in (401, 403)


def test_the_roles_are_those_the_openapi_document_tells(openapi):
    told = {
        (method.upper(), path): entry.get("x-role")
        for path, item in openapi["paths"].items()
        for method, entry in item.items()
    }
    assert told == {
        (method, path): None if path in OPEN else "viewer" if (method, path) in VIEWERS else "operator"
        for method, path in ROUTES
    }


@pytest.mark.parametrize("scheme", ["Basic {}", "{}", "Bearer", "Token {}", "Bearer  ", "Bearer {} x"])
def test_only_a_bearer_token_is_heeded(desk, scheme):
    header = scheme.format(desk.secrets["alice"])
    assert desk.call("GET", "/v1/me", by=None, headers={"Authorization": header}).status == 401


def test_the_scheme_is_read_in_any_case(desk):
    header = f"bearer {desk.secrets['alice']}"
    assert desk.call("GET", "/v1/me", by=None, headers={"Authorization": header}).json["name"] == "alice"


def test_two_tokens_of_one_name_work_side_by_side_and_a_revoked_one_does_not(desk):
    old = desk.secrets["alice"]
    new, kept = issue("alice", Role.OPERATOR, secret=bytes(range(32)), now=desk.now)
    desk.tokens.append(kept)
    for token in (old, new):
        desk.secrets["any"] = token
        assert desk.call("GET", "/v1/me", by="any").json["name"] == "alice"
    desk.tokens = [token for token in desk.tokens if token.id != check(old, desk.tokens, desk.now).id]
    desk.secrets["any"] = old
    assert desk.call("GET", "/v1/me", by="any").status == 401


def test_there_is_no_default_credential(desk):
    desk.tokens.clear()
    assert desk.call("GET", "/v1/me").status == 401


def test_when_the_tokens_cannot_be_read_nobody_gets_in(desk, monkeypatch):
    class Broken(list):
        def __iter__(self):
            raise Unavailable("read /sluice/tokens: AccessDenied")

    desk.tokens = Broken(desk.tokens)
    reply = desk.call("GET", "/v1/me")
    assert (reply.status, reply.json) == (500, {"message": None})


def test_no_token_reaches_state_answers_or_logs(desk, caplog, capsys):
    for path, query in (("/v1/me", {}), ("/v1/audit", {}), ("/v1/blocks", {"bad": 1}), ("/v1/top", {"rule": "x"})):
        reply = desk.call("GET", path, **query)
        assert desk.secrets["alice"] not in reply.text
    desk.call("PUT", "/v1/allowlist", {"network": "192.0.2.1"}, headers={"Idempotency-Key": "k"})
    stored = repr(desk.cloud.state._items)
    out = capsys.readouterr()
    for secret in (desk.secrets["alice"], desk.secrets["alice"].removeprefix(PREFIX)):
        assert secret not in stored + caplog.text + out.out + out.err
    assert not any(desk.secrets["alice"] in repr(token) for token in desk.tokens)


def test_a_token_is_kept_as_a_hash_and_known_by_its_prefix():
    text, kept = issue("ci", Role.VIEWER, secret=bytes(32), now=5, expires_at=9)
    assert text.startswith(PREFIX)
    assert len(text) == len(PREFIX) + 43
    assert kept == Token(name="ci", role=Role.VIEWER, hash=kept.hash, created_at=5, expires_at=9)
    assert check(text, [kept], 8) == kept
    assert check(text, [kept], 9) is None
    assert check("x" * 10_000, [kept], 8) is None


@pytest.mark.parametrize("name", ["", "x" * 65, "a\nb", "\u202e"])
def test_a_name_that_could_not_be_shown_is_refused(name):
    with pytest.raises(ValueError, match="name"):
        issue(name, Role.VIEWER, secret=bytes(32), now=0)


def test_a_short_secret_is_refused():
    with pytest.raises(ValueError, match="32 are needed"):
        issue("a", Role.VIEWER, secret=b"guessable", now=0)


def test_a_broken_store_of_tokens_is_an_error_that_shows_nothing_of_it():
    with pytest.raises(TokensError) as raised:
        load_tokens('[{"name": "alice", "hash": "c0ffee"')
    assert "c0ffee" not in str(raised.value)


def test_bearer_of_nothing_is_nothing():
    assert bearer("") == ""


CONTEXT = {"identity": {"sourceIp": "192.0.2.1", "userArn": "arn:aws:iam::1:user/ann"}, "requestId": "r-1"}


def test_with_iam_the_arn_is_who_calls():
    caller = caller_of(CONTEXT, "iam")
    assert (caller.name, caller.role, caller.address) == ("arn:aws:iam::1:user/ann", Role.OPERATOR, "192.0.2.1")


@pytest.mark.parametrize(
    ("context", "mode"),
    [
        pytest.param({}, "token", id="nothing"),
        pytest.param({}, "iam", id="nothing, with IAM"),
        pytest.param(CONTEXT, "token", id="an ARN where tokens count"),
        pytest.param({"authorizer": {"name": "a", "role": "root"}}, "token", id="an unknown role"),
        pytest.param({"authorizer": {"name": "a", "role": "operator"}}, "iam", id="a token where IAM counts"),
    ],
)
def test_a_caller_that_the_gateway_does_not_vouch_for_is_nobody(context, mode):
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


def test_iam_and_cors_are_settings_of_the_deployment():
    environment = {"ADMIN_AUTH": "iam", "CORS_ORIGIN": "https://ops.example.com", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", IAM], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_cors_is_closed_unless_configured(desk):
    assert desk.call("OPTIONS", "/v1/blocks").status == 403
    reply = desk.call("GET", "/v1/me", headers={"Origin": "https://evil.example"})
    assert not [name for name in reply.headers if name.lower().startswith("access-control")]


AUTHORIZE = """
import json, sys
from app import authorize
arn = "arn:aws:execute-api:us-east-1:1:api/stage/GET/v1/me"
print(json.dumps(authorize({"type": "TOKEN", "authorizationToken": sys.argv[1], "methodArn": arn}, None)))
"""


def run_authorizer(tmp_path, header):
    """As Lambda runs it: the authorizer's own function, without the app."""
    environment = {"TOKENS_FILE": str(tmp_path / "tokens"), "AWS_DEFAULT_REGION": "us-east-1", "PATH": ""}
    command = [sys.executable, "-c", AUTHORIZE, header]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_deployed_authorizer_knows_tokens_by_itself(tmp_path):
    text, kept = issue("alice", Role.OPERATOR, secret=bytes(32), now=0)
    FileTokens(tmp_path / "tokens").write([kept])
    said = json.loads(run_authorizer(tmp_path, f"Bearer {text}").stdout)
    assert said["context"] == {"name": "alice", "role": "operator"}
    assert said["policyDocument"]["Statement"][0]["Resource"] == ["arn:aws:execute-api:us-east-1:1:api/stage/*/*"]
    assert text not in json.dumps(said)


def test_the_deployed_authorizer_fails_with_the_word_that_api_gateway_answers_401_to(tmp_path):
    done = run_authorizer(tmp_path, "Bearer sluice_nobody")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(": Unauthorized")
    assert "sluice_nobody" not in done.stderr
