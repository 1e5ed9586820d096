"""``sluice status``: how things stand."""

from typing import Any

import click
from rich.text import Text

from chalicelib.admin.wording import plural, roughly
from sluice.commands.shared.api import Desk, desk, table
from sluice.commands.shared.times import local

STALE_SWEEP_S = 180


@click.command()
@desk
def status(here: Desk) -> None:
    """How things stand: blocks, IP sets, rules, pause, breaker, sweep, lag.

    \b
    sluice status
    sluice status --json | jq .blocks.active
    """
    found = here.client.get("/v1/status")
    here.show(found, *_alarms(found), table(("", ""), _rows(found)))


def _alarms(found: dict[str, Any]) -> list[Text]:
    alarms = []
    pause, breaker, sweep = found["pause"], found["breaker"], found["sweep"]
    if pause["paused"]:
        what = "nobody is refused" if pause["release"] else "nothing new is blocked"
        alarms.append(f"PAUSED by {pause['by']} since {local(pause['at'])}: {what}. Go on with:  sluice resume")
    if breaker["open"]:
        alarms.append(
            f"BREAKER OPEN since {local(breaker['at'])}: {breaker['would_block']} new blocks within a minute. "
            "Nothing new is blocked. Look, then:  sluice breaker reset"
        )
    alarms += [f"{kind}: {found[kind]['problem']}" for kind in ("rules", "ingest") if found[kind]["problem"]]
    if sweep is None or sweep["age_s"] > STALE_SWEEP_S:
        alarms.append(
            f"The last sweep was {roughly(sweep['age_s']) + ' ago' if sweep else 'never'}: blocks may not end."
        )
    if found["blocks"]["overflow"]:
        alarms.append(f"{plural(found['blocks']['overflow'], 'block')} find no room in the IP sets.")
    return [Text(alarm, "bold red") for alarm in alarms]


def _rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    blocks, rules, ingest, sweep = found["blocks"], found["rules"], found["ingest"], found["sweep"]
    by_rule = ", ".join(f"{each['rule']} {each['blocks']}" for each in blocks["by_rule"])
    withheld = f", {blocks['withheld']} withheld by the allowlist" if blocks["withheld"] else ""
    lag = "nothing was counted lately" if ingest["lag_ms"] is None else f"{ingest['lag_ms'] / 1000:.1f} s"
    return [
        ("blocks", f"{blocks['active']} ({blocks['ipv4']} IPv4, {blocks['ipv6']} IPv6){withheld}"),
        ("by rule", by_rule or "-"),
        *((f"IPv{ips['family']} sets", f"{ips['networks']} of {ips['capacity']}") for ips in found["ip_sets"]),
        ("allowlist", plural(found["allowlist"], "network")),
        ("rules", f"version {rules['version']}, {plural(rules['rules'], 'rule')}, saved {local(rules['saved_at'])}"),
        ("requests", f"{ingest['requests_per_second']:.1f} a second, from {plural(ingest['shards'], 'shard')}"),
        ("lag", lag),
        ("last sweep", f"{roughly(sweep['age_s'])} ago" if sweep else "never"),
        (
            "enforcing",
            "no: paused" if found["pause"]["paused"] else "no: breaker" if found["breaker"]["open"] else "yes",
        ),
    ]
