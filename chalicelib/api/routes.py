"""The routes of the admin API: read, do, answer. What each takes and gives stands in ``openapi.json``."""

from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path

from chalice.app import AuthRequest, AuthResponse, Blueprint, CORSConfig, IAMAuthorizer, Request, Response
from msgspec import structs

from chalicelib.admin import allowlist, audit, blocking, blocks, clients, control, series, status
from chalicelib.admin import rule_sets as rules
from chalicelib.admin.networks import read_network
from chalicelib.api import headers
from chalicelib.api import schemas as forms
from chalicelib.api.call import ApiCall, answer, caller_of, changed
from chalicelib.api.problems import CHALICE, Rejected, problem, problem_of
from chalicelib.bootstrap import config, services
from chalicelib.core.tokens import Role, bearer, check

api = Blueprint(__name__)

AUTHORIZED_S = 30
"""How long API Gateway remembers what the authorizer said of a token."""

UNBLOCK_TRIES = 5
"""An unblock loses nobody's edit, and must not fail for the enforcer's being busy with the same client."""

FILES = Path(__file__).parents[1]
PAGE_KINDS = {".js": "text/javascript", ".css": "text/css"}
CORS = (
    CORSConfig(
        config().cors_origin,
        allow_headers=["If-Match", "Idempotency-Key"],
        expose_headers=["ETag", "Idempotency-Replayed"],
        max_age=600,
    )
    if config().cors_origin
    else False
)

if config().admin_auth == "iam":
    guard = IAMAuthorizer()
else:

    class Unauthorized(Exception):
        """API Gateway answers 401 to an authorizer that fails with just this word."""

    @api.authorizer(ttl_seconds=AUTHORIZED_S)
    def authorize(request: AuthRequest) -> AuthResponse:
        """Lets known tokens in everywhere; what their role may do, each route says."""
        world = services().world
        token = check(bearer(request.token), world.tokens(), int(world.clock()))
        if token is None:
            raise Unauthorized("Unauthorized")
        return AuthResponse(routes=["*"], principal_id=token.id, context={"name": token.name, "role": token.role})

    guard = authorize

RouteFunction = Callable[[ApiCall], Response]


def route(method: str, path: str, role: Role) -> Callable[[RouteFunction], RouteFunction]:
    """A route that needs at least ``role``."""

    def register(view: RouteFunction) -> RouteFunction:
        @wraps(view)
        def entry() -> Response:
            here = services()
            try:
                caller = caller_of(api.current_request.context, here.config.admin_auth)
                if not caller.role.covers(role):
                    detail = f"{method} {path} needs the role '{role}'; {caller.name!r} is a {caller.role}."
                    raise Rejected(403, "role", "Not allowed", detail)
                return view(ApiCall(api.current_request, here, caller, int(here.world.clock() * 1000)))
            except Exception as exc:
                response = problem_of(exc)
                if response is None:
                    raise
                return response

        key_required = config().admin_api_key == "required"
        api.route(path, methods=[method], authorizer=guard, cors=CORS, api_key_required=key_required)(entry)
        return view

    return register


@api.middleware("http")
def finish(event: Request, get_response: Callable[[Request], Response]) -> Response:
    """Security headers for every answer, and problem documents for what Chalice itself refuses."""
    response = get_response(event)
    if response.status_code in CHALICE and isinstance(response.body, dict):
        slug, title = CHALICE[response.status_code]
        response = problem(response.status_code, slug, title, response.body["Message"])
    page = str(response.headers.get("Content-Type", "")).startswith("text/")
    response.headers = {**(headers.PAGE if page else headers.ANSWER), **response.headers}
    return response


@route("GET", "/v1/me", Role.VIEWER)
def me(call: ApiCall) -> Response:
    call.query(forms.Nothing)
    return answer({"name": call.caller.name, "role": call.caller.role, "address": call.caller.address})


@route("GET", "/v1/status", Role.VIEWER)
def get_status(call: ApiCall) -> Response:
    call.query(forms.Nothing)
    return answer(status.status(call.state, call.here.live, call.here.config.ip_sets, call.now_ms))


@route("GET", "/v1/allowlist", Role.VIEWER)
def get_allowlist(call: ApiCall) -> Response:
    asked = call.query(forms.AllowlistPage)
    return answer(allowlist.entries(call.state, limit=asked.limit, cursor=asked.cursor, now=call.now))


@route("PUT", "/v1/allowlist", Role.OPERATOR)
def put_allowlist(call: ApiCall) -> Response:
    call.query(forms.Nothing)
    wish = call.body(forms.NewAllow)
    done = allowlist.put(
        call.state,
        read_network(wish.network, "body"),
        comment=wish.comment,
        expires_at=wish.expires_at,
        force=wish.force,
        widest=call.widest,
        caller=call.caller,
        now_ms=call.now_ms,
    )
    return changed(done)


@route("DELETE", "/v1/allowlist", Role.OPERATOR)
def delete_allowlist(call: ApiCall) -> Response:
    network = read_network(call.query(forms.Network).network, "query")
    return call.make(lambda: allowlist.delete(call.state, network, now=call.now))


@route("GET", "/v1/blocks", Role.VIEWER)
def get_blocks(call: ApiCall) -> Response:
    asked = call.query(forms.Blocks)
    wanted = blocks.Filter(rule=asked.rule, source=asked.source, text=asked.text)
    page = blocks.blocks(
        call.state,
        wanted,
        sort=asked.sort,
        limit=asked.limit,
        cursor=asked.cursor,
        allowlist=call.allowlist(),
        now=call.now,
    )
    return answer(page)


@route("POST", "/v1/blocks", Role.OPERATOR)
def post_blocks(call: ApiCall) -> Response:
    call.query(forms.Nothing)
    body = call.json()
    single = not (isinstance(body, dict) and "blocks" in body)
    forms_of = [call.body(forms.NewBlock)] if single else call.body(forms.NewBlocks).blocks
    wishes = [blocking.Wish(**structs.asdict(form)) for form in forms_of]
    return call.make(
        lambda: blocking.block(call.state, wishes, single=single, widest=call.widest, caller=call.caller, now=call.now),
        status=201,
    )


@route("DELETE", "/v1/blocks", Role.OPERATOR)
def delete_blocks(call: ApiCall) -> Response:
    asked = call.query(forms.Unblock)
    networks = [read_network(text, "query") for text in asked.network]
    return call.make(
        lambda: blocking.unblock(call.state, networks, forget=asked.forget, allowlist=call.allowlist(), now=call.now),
        tries=UNBLOCK_TRIES,
    )


@route("GET", "/v1/clients", Role.VIEWER)
def get_client(call: ApiCall) -> Response:
    network = read_network(call.query(forms.Address).address, "query", "address")
    return answer(clients.client(call.state, call.here.live, network, sample_rate=call.sample_rate, now_ms=call.now_ms))


@route("GET", "/v1/top", Role.VIEWER)
def get_top(call: ApiCall) -> Response:
    asked = call.query(forms.TopOf)
    return answer(
        clients.top(
            call.state, call.live(), rule=asked.rule, number=asked.n, sample_rate=call.sample_rate, now_ms=call.now_ms
        )
    )


@route("GET", "/v1/rules", Role.VIEWER)
def get_rules(call: ApiCall) -> Response:
    asked = call.query(forms.WhichRules)
    found = rules.rule_set(call.state, asked.version)
    etag = {"ETag": f'"{found.version}"'}
    if asked.format == "toml":
        return Response(body=found.text, headers={"Content-Type": "application/toml", **etag})
    return answer(found, etag)


@route("PUT", "/v1/rules", Role.OPERATOR)
def put_rules(call: ApiCall) -> Response:
    call.query(forms.Nothing)
    wish, based_on = call.body(forms.NewRules), call.based_on()
    return call.make(
        lambda: rules.put(
            call.state, wish.text, comment=wish.comment, based_on=based_on, caller=call.caller, now=call.now
        )
    )


@route("POST", "/v1/rules/plan", Role.VIEWER)
def plan_rules(call: ApiCall) -> Response:
    call.query(forms.Nothing)
    return answer(rules.plan(call.state, call.body(forms.RulesText).text))


@route("GET", "/v1/rules/history", Role.VIEWER)
def rules_history(call: ApiCall) -> Response:
    asked = call.query(forms.HistoryPage)
    return answer(rules.history(call.state, limit=asked.limit, cursor=asked.cursor, now=call.now))


@route("POST", "/v1/rules/rollback", Role.OPERATOR)
def rollback_rules(call: ApiCall) -> Response:
    call.query(forms.Nothing)
    wish, based_on = call.body(forms.Rollback), call.based_on()
    return call.make(
        lambda: rules.rollback(
            call.state, wish.version, comment=wish.comment, based_on=based_on, caller=call.caller, now=call.now
        )
    )


@route("POST", "/v1/pause", Role.OPERATOR)
def pause(call: ApiCall) -> Response:
    call.query(forms.Nothing)
    release = call.body_if_any(forms.NewPause).release
    return call.make(lambda: control.pause(call.state, release=release, caller=call.caller, now=call.now))


@route("POST", "/v1/resume", Role.OPERATOR)
def resume(call: ApiCall) -> Response:
    call.query(forms.Nothing)
    call.body_if_any(forms.Nothing)
    return call.make(lambda: control.resume(call.state, caller=call.caller, now=call.now))


@route("POST", "/v1/breaker/reset", Role.OPERATOR)
def reset_breaker(call: ApiCall) -> Response:
    call.query(forms.Nothing)
    quiet_for = call.body_if_any(forms.Reset).quiet_for
    return call.make(lambda: control.reset_breaker(call.state, quiet_for=quiet_for, caller=call.caller, now=call.now))


@route("GET", "/v1/audit", Role.VIEWER)
def get_audit(call: ApiCall) -> Response:
    asked = call.query(forms.AuditPage)
    return answer(audit.records(call.state, limit=asked.limit, cursor=asked.cursor, now=call.now))


@route("GET", "/v1/series", Role.VIEWER)
def get_series(call: ApiCall) -> Response:
    asked = call.query(forms.Span)
    return answer(series.series(call.state, call.live(), span_s=asked.span, step_s=asked.step, now_ms=call.now_ms))


@api.route("/healthz", cors=CORS)
def healthz() -> Response:
    return answer({"status": "ok"})


@api.route("/openapi.json", cors=CORS)
def openapi() -> Response:
    return Response(body=_file("openapi.json"), headers={"Content-Type": "application/json"})


@api.route("/")
def index() -> Response:
    return Response(body=_file("web/index.html"), headers={"Content-Type": "text/html; charset=utf-8"})


@api.route("/page/{name}")
def page_file(name: str) -> Response:
    kind = PAGE_KINDS.get(Path(name).suffix)
    if kind is None or name not in _page_files():
        return problem(404, "not-found", "Not found", f"The page has no file {name!r}.")
    return Response(body=_file(f"web/{name}"), headers={"Content-Type": f"{kind}; charset=utf-8"})


@cache
def _page_files() -> frozenset[str]:
    return frozenset(path.name for path in (FILES / "web").iterdir())


@cache
def _file(name: str) -> str:
    return (FILES / name).read_text(encoding="utf-8")
