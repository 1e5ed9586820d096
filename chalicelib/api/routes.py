"""The routes of the admin API. The first line of a docstring is the summary in the OpenAPI document."""

from functools import cache
from pathlib import Path
from typing import Literal

import msgspec

from chalicelib.admin import allowlist, blocks, breakers, control, rule_sets, schemas, unreadable
from chalicelib.admin.allowlist import AllowChange, AllowPage
from chalicelib.admin.audit import AuditPage, list_audit
from chalicelib.admin.blocks import BlockChange, BlockPage, UnblockChange
from chalicelib.admin.breakers import BreakerChange
from chalicelib.admin.busiest import Top, busiest_clients
from chalicelib.admin.changes import ChangeAnswer, PlannedChange
from chalicelib.admin.clients import ClientReport, client_report
from chalicelib.admin.control import PauseChange
from chalicelib.admin.errors import NotFound
from chalicelib.admin.feeds import FeedList, list_feeds
from chalicelib.admin.history import HistoryPage, list_history
from chalicelib.admin.rule_sets import RulesAnswer, RuleSetView, RulesPlan, VersionPage
from chalicelib.admin.series import Series, read_series
from chalicelib.admin.status import Status, read_status
from chalicelib.admin.trends import Trends, read_trends
from chalicelib.admin.unreadable import UnreadableView
from chalicelib.api.operations import JSON, ApiCall, RawAnswer, route
from chalicelib.api.problems import FORCE_NEEDED, NOT_FOUND
from chalicelib.bootstrap import config
from chalicelib.core.logs.formats import columns_of_logs
from chalicelib.core.logs.log_format import DecodeOptions
from chalicelib.core.tokens import Role

UNBLOCK_TRIES = 5
"""Attempts at an unblock, which undoes no concurrent edit and must not fail because enforce changes the same client."""

WEB = Path(__file__).parents[1] / "web"
TOML = "application/toml"
WEB_TYPES = {".js": "text/javascript", ".css": "text/css"}
WEB_FILES = tuple(sorted(path.name for path in WEB.iterdir() if path.suffix in WEB_TYPES))


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """The caller of the API."""

    name: str
    role: Role
    address: str
    """Address the call came from."""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    status: Literal["ok"] = "ok"


@route("GET", "/v1/me", role=Role.VIEWER, tag="status")
def me(call: ApiCall) -> Me:
    """Returns the caller's name, role and address."""
    return Me(name=call.caller.name, role=call.caller.role, address=call.caller.address)


@route("GET", "/v1/status", role=Role.VIEWER, tag="status")
def status(call: ApiCall) -> Status:
    """Returns what is enforced, how full the IP sets are, and whether requests are being counted."""
    return read_status(call.state, call.blocks, call.services.live, call.services.config.ip_sets, call.now_ms)


@route("GET", "/v1/allowlist", role=Role.VIEWER, tag="allowlist")
def list_allowlist(call: ApiCall, query: schemas.AllowlistQuery) -> AllowPage:
    """Lists the allowlist.

    Entries are sorted by the network's text; expired ones are left out.
    """
    return allowlist.list_allowlist(call.state, query, call.now)


@route("PUT", "/v1/allowlist", role=Role.OPERATOR, tag="allowlist", raises=(FORCE_NEEDED,))
def put_allowlist(call: ApiCall, body: schemas.NewAllow | schemas.NewAllows) -> PlannedChange[AllowChange]:
    """Adds up to 80 networks to the allowlist or changes their entries, and removes others.

    An entry that names rules exempts its network from these alone. Lifts blocks that have become exempt; the rest of a
    wider block stays blocked. The IP sets follow with the next publish. A network wider than the configured prefixes,
    or the name of a rule that is not in force, requires 'force' (409 otherwise).
    """
    history_s = call.services.config.history_s
    return allowlist.allow(
        call.state, call.blocks, body, widest=call.widest, caller=call.caller, history_s=history_s, now=call.now
    )


@route("DELETE", "/v1/allowlist", role=Role.OPERATOR, tag="allowlist")
def delete_allowlist(call: ApiCall, query: schemas.DisallowQuery) -> PlannedChange[ChangeAnswer]:
    """Removes networks from the allowlist.

    Removes only the entries for exactly these networks. Harmless if there is none.
    """
    return allowlist.disallow(call.state, query, call.now)


@route("GET", "/v1/feeds", role=Role.VIEWER, tag="feeds")
def feeds(call: ApiCall) -> FeedList:
    """Lists the feeds, and how their last checks ended.

    They are checked every hour. A feed whose check failed keeps its last list.
    """
    return list_feeds(call.state, call.now)


@route("GET", "/v1/blocks", role=Role.VIEWER, tag="blocks")
def list_blocks(call: ApiCall, query: schemas.BlocksQuery) -> BlockPage:
    """Lists the blocks in force."""
    return blocks.list_blocks(call.blocks, call.state, query, call.now)


@route("POST", "/v1/blocks", role=Role.OPERATOR, tag="blocks", status=201, raises=(FORCE_NEEDED,))
def post_blocks(call: ApiCall, body: schemas.NewBlock | schemas.NewBlocks) -> PlannedChange[BlockChange]:
    """Blocks one network, or up to 40, by hand.

    A block of the same network is replaced. A network that overlaps the allowlist, contains the address you call from,
    or is wider than the configured prefixes requires 'force' (409 otherwise). AWS WAF accepts no /0 (422).
    """
    return blocks.block(
        call.state, body, widest=call.widest, responses=call.services.config.responses, caller=call.caller, now=call.now
    )


@route("DELETE", "/v1/blocks", role=Role.OPERATOR, tag="blocks", tries=UNBLOCK_TRIES)
def delete_blocks(call: ApiCall, query: schemas.UnblockQuery) -> PlannedChange[UnblockChange]:
    """Lifts blocks.

    Harmless for a network that is not blocked.
    """
    return blocks.unblock(call.state, query, by=call.caller.name, now=call.now)


@route("GET", "/v1/clients", role=Role.VIEWER, tag="clients")
def client(call: ApiCall, query: schemas.AddressQuery) -> ClientReport:
    """Returns everything known about one client."""
    return client_report(call.state, call.blocks, call.services.live, query, sampling=call.sampling, now_ms=call.now_ms)


@route("GET", "/v1/top", role=Role.VIEWER, tag="clients", raises=(NOT_FOUND,))
def top(call: ApiCall, query: schemas.TopQuery) -> Top:
    """Lists the busiest clients under each rule.

    The latest window ends with the newest request counted, or a minute ago if that is later.
    """
    return busiest_clients(call.state, call.live(), query, sampling=call.sampling, now_ms=call.now_ms)


@route("GET", "/v1/rules", role=Role.VIEWER, tag="rules", etag=True, media_types=(JSON, TOML), raises=(NOT_FOUND,))
def get_rules(call: ApiCall, query: schemas.RulesQuery) -> RuleSetView | RawAnswer:
    """Returns the active rule set, or an earlier version."""
    rules = rule_sets.rule_set(call.state, query.version)
    if query.format == "toml":
        return RawAnswer(rules.text, TOML, rules.version)
    return rules


@route("PUT", "/v1/rules", role=Role.OPERATOR, tag="rules", etag=True, raises=(FORCE_NEEDED,))
def put_rules(call: ApiCall, body: schemas.NewRules, based_on: int) -> PlannedChange[RulesAnswer]:
    """Activates a rule set.

    Running containers pick it up within 10 seconds.
    """
    return rule_sets.activate(call.state, body, call.rule_bounds, based_on=based_on, caller=call.caller, now=call.now)


@route("POST", "/v1/rules/edit", role=Role.OPERATOR, tag="rules", etag=True, raises=(NOT_FOUND, FORCE_NEEDED))
def edit_rules(call: ApiCall, body: schemas.RuleEdit, based_on: int) -> PlannedChange[RulesAnswer]:
    """Activates the rule set with a new action, limit or pause of one rule; the rest of its text stays unchanged."""
    return rule_sets.edit(call.state, body, call.rule_bounds, based_on=based_on, caller=call.caller, now=call.now)


@route("POST", "/v1/rules/plan", role=Role.VIEWER, tag="rules", raises=(NOT_FOUND,))
def plan_rules(call: ApiCall, body: schemas.RulesText | schemas.RuleEdit) -> RulesPlan:
    """Checks a rule set and returns what it would change, and what it would do to the clients that are counted now.

    Also accepts an edit of one rule, in the form of POST /v1/rules/edit. Changes nothing.
    """
    config, live, now_ms = call.services.config, call.services.live, call.now_ms
    columns = columns_of_logs(DecodeOptions(config.cloudfront_fields, json_fields=config.json_fields))
    return rule_sets.plan(
        call.state, body, call.rule_bounds, sampling=call.sampling, columns=columns, live=live, now_ms=now_ms
    )


@route("GET", "/v1/rules/history", role=Role.VIEWER, tag="rules")
def rules_history(call: ApiCall, query: schemas.HistoryQuery) -> VersionPage:
    """Lists the versions of the rule set, newest first."""
    return rule_sets.history(call.state, query, call.now)


@route("POST", "/v1/rules/rollback", role=Role.OPERATOR, tag="rules", etag=True, raises=(NOT_FOUND, FORCE_NEEDED))
def rollback_rules(call: ApiCall, body: schemas.Rollback, based_on: int) -> PlannedChange[RulesAnswer]:
    """Activates an earlier version again, as a new one."""
    return rule_sets.rollback(call.state, body, call.rule_bounds, based_on=based_on, caller=call.caller, now=call.now)


@route("POST", "/v1/pause", role=Role.OPERATOR, tag="control")
def pause(call: ApiCall, body: schemas.NewPause) -> PlannedChange[PauseChange]:
    """Pauses enforcement.

    Rules block no new client. With 'release' the IP sets are emptied as well; without it, existing blocks run out. At
    'until' enforcement resumes by itself. Of a pause in force, another call changes release, end and reason.
    """
    return control.pause(call.state, body, caller=call.caller, now=call.now)


@route("POST", "/v1/resume", role=Role.OPERATOR, tag="control")
def resume(call: ApiCall) -> PlannedChange[PauseChange]:
    """Resumes enforcement."""
    return control.resume(call.state, caller=call.caller, now=call.now)


@route("POST", "/v1/breaker/reset", role=Role.OPERATOR, tag="control", raises=(NOT_FOUND,))
def reset_breaker(call: ApiCall, body: schemas.BreakerReset) -> PlannedChange[BreakerChange]:
    """Closes the circuit breaker of one rule, or of all.

    Waiting offenders are blocked within a minute. The breaker stays closed for a while, whichever clients the rules
    hit.
    """
    return breakers.reset_breaker(call.state, body, caller=call.caller, now=call.now)


@route("GET", "/v1/audit", role=Role.VIEWER, tag="audit")
def audit(call: ApiCall, query: schemas.AuditQuery) -> AuditPage:
    """Lists the changes that operators made, newest first."""
    return list_audit(call.state, query, call.now)


@route("GET", "/v1/history", role=Role.VIEWER, tag="history")
def history(call: ApiCall, query: schemas.EventsQuery) -> HistoryPage:
    """Lists what was decided about clients and rules, newest first.

    These are blocks and their ends, offences for which no client was blocked, rules that were stopped or resumed, and
    warnings. They are kept for as long as HISTORY_DAYS says. A call examines at most 5,000 events, so a page may hold
    fewer than the limit and still be followed by another.
    """
    return list_history(call.state, query, history_s=call.services.config.history_s, now=call.now)


@route("GET", "/v1/unreadable", role=Role.VIEWER, tag="records", raises=(NOT_FOUND,))
def get_unreadable(call: ApiCall, query: schemas.RecordQuery) -> UnreadableView:
    """Returns a stored record that cannot be read.

    The status lists them.
    """
    return unreadable.show_unreadable(call.state, query, call.now)


@route("DELETE", "/v1/unreadable", role=Role.OPERATOR, tag="records")
def delete_unreadable(call: ApiCall, query: schemas.RecordQuery) -> PlannedChange[ChangeAnswer]:
    """Removes a stored record that cannot be read.

    Harmless if there is none, or if it can be read. Records of the audit and receipts stay (422).
    """
    return unreadable.remove_unreadable(call.state, query)


@route("PUT", "/v1/unreadable", role=Role.OPERATOR, tag="records")
def put_unreadable(call: ApiCall, body: schemas.UnreadableRecord) -> PlannedChange[ChangeAnswer]:
    """Puts back a record that cannot be read, to undo its removal."""
    return unreadable.restore_unreadable(call.state, body)


@route("GET", "/v1/series", role=Role.VIEWER, tag="status")
def series(call: ApiCall, query: schemas.SeriesQuery) -> Series:
    """Returns requests, detections and blocks over time."""
    return read_series(call.state, call.blocks, call.live(), query, call.now_ms)


@route("GET", "/v1/trends", role=Role.VIEWER, tag="status")
def trends(call: ApiCall, query: schemas.TrendsQuery) -> Trends:
    """Returns requests, offences and blocks of up to a month, and those of a day and a week earlier.

    They are added up by quarter hour, within a minute after its end, and kept for 38 days.
    """
    return read_trends(call.state, query, call.now)


@route("GET", "/healthz", role=None, tag="open")
def healthz() -> Health:
    """Returns "ok" if the API is up."""
    return Health()


@route("GET", "/openapi.json", role=None, tag="open")
def openapi() -> RawAnswer:
    """Returns this document."""
    return RawAnswer(_document(), JSON)


@route("GET", "/", role=None, tag="open", media_types=("text/html",))
def page() -> RawAnswer:
    """Returns the operator's page."""
    return _web_file("index.html", "text/html")


@route(
    "GET",
    "/page/{name}",
    role=None,
    tag="open",
    media_types=tuple(WEB_TYPES.values()),
    raises=(NOT_FOUND,),
    path_values={"name": WEB_FILES},
)
def page_file(name: str) -> RawAnswer:
    """Returns one of the page's scripts or its style sheet."""
    if name not in WEB_FILES:
        raise NotFound(f"The page has no file {name!r}.")
    return _web_file(name, WEB_TYPES[Path(name).suffix])


@cache
def _web_file(name: str, media_type: str) -> RawAnswer:
    return RawAnswer((WEB / name).read_text(encoding="utf-8"), f"{media_type}; charset=utf-8")


@cache
def _document() -> str:
    from chalicelib.api.openapi import document  # noqa: PLC0415 - needed only by the container that is asked for it

    return msgspec.json.encode(document(config().admin_auth)).decode()
