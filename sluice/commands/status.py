"""``sluice status``: shows what is enforced, blocked and counted."""

from collections import Counter
from collections.abc import Iterator

import click
from rich.text import Text

from chalicelib.admin.malformed import MalformedPieces
from chalicelib.admin.status import Status
from chalicelib.core.printable import printable
from chalicelib.core.state.operators import Placed
from chalicelib.core.state.trends import TRENDS_LATE_S
from chalicelib.core.wording import plural, roughly
from sluice.commands.records import counted
from sluice.commands.shared.api import Printable, Session, api_command
from sluice.commands.shared.output import table
from sluice.commands.shared.times import local

MISREAD = 0.05
"""Share of malformed pieces above which there is an alarm, as in a deployed stage."""

STALE_SWEEP_S = 180
"""Age of the last sweep above which there is an alarm: sweeps run once per minute."""


@click.command()
@api_command
def status(session: Session) -> None:
    """Show what is enforced, blocked and counted.

    \b
    sluice status
    sluice status --json | jq .blocks.active
    """
    session.show(session.client.get("/v1/status", Status), _view)


def _view(status: Status) -> Iterator[Printable]:
    yield from (Text(printable(alarm), "bold red") for alarm in _alarms(status))
    yield table(("", ""), _rows(status))
    if status.ingest.malformed:
        yield "\nLines and files that could not be read in the last quarter hour:"
        yield from map(_malformed, status.ingest.malformed)


def _malformed(pieces: MalformedPieces) -> str:
    read_as = f" (read as {pieces.source})" if pieces.source else ""
    return f"{pieces.problem}{read_as}, such as {pieces.where or 'a record'}: {pieces.sample}\n  {pieces.remedy}."


def _alarms(status: Status) -> Iterator[str]:
    pause, sweep = status.pause, status.sweep
    if pause.paused:
        effect = "no request is refused" if pause.release else "rules block no new client"
        end = f" until {local(pause.until)}" if pause.until else ""
        comment = f" ({pause.comment})" if pause.comment else ""
        yield f"PAUSED by {pause.by} since {local(pause.at)}{end}{comment}: {effect}. Resume with:  sluice resume"
    for stopped in status.breaker.stopped:
        yield (
            f"RULE STOPPED since {local(stopped.stopped_at)}: {stopped.rule} would have blocked {stopped.would_hit} of "
            f"{plural(stopped.known, 'known client')} within ten minutes, such as {', '.join(stopped.clients[:3])}. "
            f"It blocks no new client. Check its limit or, if it is right, run:  sluice breaker reset {stopped.rule}"
        )
    if status.rules.problem:
        yield f"rules: {status.rules.problem}"
    for feed in status.feeds:
        if feed.problem:
            networks = plural(feed.networks, "network")
            yield f"feed {feed.name}: {feed.problem}. Its last list, of {networks}, stays in use."
    if status.ingest.problem:
        yield f"ingest: {status.ingest.problem}"
    if status.unreadable:
        kinds = ", ".join(f"{kind} {number}" for kind, number in Counter(r.kind for r in status.unreadable).items())
        first = status.unreadable[0]
        yield (
            f"{counted(status.unreadable)} that cannot be read: skipped ({kinds}), for example {first.kind} {first.id} "
            f"({first.reason}). List them with:  sluice records list"
        )
    if sweep is None or sweep.age_s > STALE_SWEEP_S:
        last = f"last ran {roughly(sweep.age_s)} ago" if sweep else "has never run"
        yield f"The sweep {last}: expired blocks may not be lifted."
    if status.trends_at is not None and status.now - status.trends_at > TRENDS_LATE_S:
        yield (
            f"Traffic was last added up for trends at {local(status.trends_at)}. The log of the sweep has the reason; "
            "the next sweep that succeeds makes up for it."
        )
    if status.ingest.malformed_share > MISREAD:
        yield f"NOT COUNTED: {status.ingest.malformed[0].problem}. {status.ingest.malformed[0].remedy}."
    yield from map(_bypass, (each for each in status.web_acls.web_acls if each.bypassed))
    if status.blocks.overflow:
        yield f"{plural(status.blocks.overflow, 'block')} did not fit into the IP sets."


def _bypass(web_acl: Placed) -> str:
    if not web_acl.place:
        return f"Web ACL {web_acl.web_acl} has none of Sluice's rules: no request is refused there. Run:  sluice setup"
    letting = ", ".join(f"{rule.name} ({rule.effect})" for rule in web_acl.before if rule.may_allow)
    return (
        f"In web ACL {web_acl.web_acl}, rules before Sluice's may let requests of blocked clients pass: {letting}. "
        "Unless this is intended, run:  sluice setup --renumber"
    )


def _rows(status: Status) -> list[tuple[str, str]]:
    blocks, rules, ingest, sweep = status.blocks, status.rules, status.ingest, status.sweep
    age = max(0, status.now - status.web_acls.at)
    withheld = f", {blocks.withheld} withheld by the allowlist" if blocks.withheld else ""
    merged = f", {blocks.merged} of merged networks, because the IP sets were nearly full" if blocks.merged else ""
    blocking = f"{rules.blocking or 'none'} of them blocking"
    by_rule = ", ".join(f"{entry.rule} {entry.blocks}" for entry in blocks.by_rule)
    return [
        ("blocks", f"{blocks.active} ({blocks.ipv4} IPv4, {blocks.ipv6} IPv6){withheld}{merged}"),
        ("by rule", by_rule or "-"),
        *((f"IPv{sets.family} sets", f"{sets.networks} of {sets.capacity}") for sets in status.ip_sets),
        ("allowlist", plural(status.allowlist, "network")),
        (
            "rules",
            f"version {rules.version}, {plural(rules.rules, 'rule')}, {blocking}, saved {local(rules.saved_at)}",
        ),
        ("requests", f"{ingest.requests_per_second:.1f} per second, from {plural(ingest.shards, 'shard')}"),
        ("lag", "no recent requests" if ingest.lag_ms is None else f"{ingest.lag_ms / 1000:.1f} s"),
        ("late", f"{plural(ingest.late, 'request')} too old to count (RETENTION_S)" if ingest.late else "-"),
        *(
            (f"web ACL {each.web_acl}", f"rule {each.place} of {each.rules}, {roughly(age)} ago")
            for each in status.web_acls.web_acls
        ),
        ("last sweep", f"{roughly(sweep.age_s)} ago" if sweep else "never"),
        ("enforcing", _enforcing(status)),
    ]


def _enforcing(status: Status) -> str:
    if status.pause.paused:
        return "no: paused"
    if not status.rules.blocking:
        return "no: every rule only counts" if status.rules.rules else "no: there are no rules"
    stopped = [each.rule for each in status.breaker.stopped]
    return f"yes, except {', '.join(stopped)}" if stopped else "yes"
