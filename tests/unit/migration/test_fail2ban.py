"""Jails become rules; what a rule cannot say is named."""

from collections.abc import Sequence
from typing import Any

import pytest

from chalicelib.core.rules import Action, Rule
from chalicelib.core.rules_toml import parse_rules
from sluice.migration.fail2ban import HTTP_FILTERS, JailError, fail2ban_plan
from sluice.migration.plan import Fate, Plan
from sluice.replay.engine import Options, replay
from tests.support.replay_logs import T0, Hit, chunk, combined

JAIL_CONF = """\
[INCLUDES]
before = paths-debian.conf

[DEFAULT]
# ignoreself = true
ignoreip = 127.0.0.1/8 ::1 192.0.2.0/24
    198.51.100.7, monitor.example.com
bantime  = 10m
findtime  = 10m
maxretry = 5
backend = auto
enabled = false
mode = normal
filter = %(__name__)s[mode=%(mode)s]
action_ = %(banaction)s[port="%(port)s", protocol="%(protocol)s"]
action = %(action_)s

[sshd]
enabled = true ; as everywhere
port    = ssh
logpath = %(sshd_log)s

[nginx-http-auth]
enabled = true
mode = fallback
logpath = %(nginx_error_log)s
bantime.increment = true
bantime.maxtime = 5w
bantime.factor = 2

[nginx-botsearch]
enabled = yes
maxretry = 2
bantime = 1d 12h

[apache-noscript]
logpath  = %(apache_error_log)s

[apache-badbots]
enabled = on
"""


def rules_of(plan: Plan) -> dict[str, Rule]:
    rules = {rule.name: rule for rule in parse_rules(plan.rules_text()).rules} if plan.rules else {}
    assert {rule.action for rule in rules.values()} <= {Action.COUNT}
    return rules


def plan_of(*texts: str) -> Plan:
    return fail2ban_plan({f"jail-{number}": text for number, text in enumerate(texts)})


def fates(plan: Plan, setting: str) -> list[Fate]:
    return [row.fate for row in plan.rows if row.setting == setting]


def terms(rule: Rule) -> tuple[int, int, int, Sequence[str]]:
    return rule.limit, rule.window_s, rule.block_for_s, rule.scope.status


def test_jails_become_rules_with_their_defaults_and_interpolation() -> None:
    rules = rules_of(plan_of(JAIL_CONF))
    assert {name: terms(rule) for name, rule in rules.items()} == {
        "nginx-http-auth": (4, 600, 600, ("401",)),
        "nginx-botsearch": (1, 600, 129_600, ("403", "404")),
    }
    escalate = rules["nginx-http-auth"].escalate
    assert escalate is not None
    assert (escalate.factor, escalate.max_s, escalate.memory_s) == (2, 5 * 7 * 86400, 86400)
    assert rules["nginx-botsearch"].escalate is None


def test_every_jail_has_a_row() -> None:
    plan = plan_of(JAIL_CONF)
    assert fates(plan, "[sshd]") == [Fate.BY_HAND]
    assert fates(plan, "[apache-badbots]") == [Fate.BY_HAND]
    assert fates(plan, "[apache-noscript]") == [Fate.UNUSED]
    assert fates(plan, "[nginx-http-auth]") == [Fate.RULE]
    assert fates(plan, "[nginx-http-auth] bantime.factor") == [Fate.BY_HAND]
    assert fates(plan, "[INCLUDES]") == [Fate.BY_HAND]
    (others,) = [row.value for row in plan.rows if row.setting == "[DEFAULT]"]
    assert set(others.split(", ")) == {"action", "action_", "backend", "mode"}


def test_ignoreip_becomes_the_allowlist_and_names_are_left_to_the_operator() -> None:
    plan = plan_of(JAIL_CONF)
    assert [str(each.network) for each in plan.allowlist] == ["192.0.2.0/24", "198.51.100.7/32"]
    assert fates(plan, "[DEFAULT] ignoreip").count(Fate.UNUSED) == 2
    assert ("monitor.example.com", Fate.BY_HAND) in [(row.value, row.fate) for row in plan.rows]
    own = plan_of(JAIL_CONF, "[nginx-botsearch]\nignoreip = 203.0.113.0/24\n")
    assert str(own.allowlist[-1].network) == "203.0.113.0/24"


def test_a_later_file_overrides_an_earlier_one() -> None:
    plan = plan_of(JAIL_CONF, "[DEFAULT]\nmaxretry = 10\n[nginx-botsearch]\nenabled = false\n")
    assert {name: rule.limit for name, rule in rules_of(plan).items()} == {"nginx-http-auth": 9}


@pytest.mark.parametrize("name", HTTP_FILTERS)
def test_every_known_filter_makes_a_valid_rule(name: str) -> None:
    assert set(rules_of(plan_of(f"[{name}]\nenabled = true\n"))) == {name}


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("maxretry = many", "maxretry"),
        ("findtime = soon", "findtime"),
        ("bantime = 10 parsecs", "bantime"),
        ("findtime = 2d", "findtime"),
        ("bantime.increment = true\nbantime.maxtime = ever", "bantime.maxtime"),
        ("bantime.increment = true\nbantime.multipliers = 1 5 30", "bantime.multipliers"),
        ("bantime.increment = true\nbantime.rndtime = 10m", "bantime.rndtime"),
        ("bantime.increment = true\nbantime.formula = ban.Time * 2", "bantime.formula"),
        ("bantime.increment = true\nbantime.overalljails = true", "bantime.overalljails"),
    ],
)
def test_what_a_rule_cannot_say_is_named(text: str, setting: str) -> None:
    plan = plan_of(f"[nginx-http-auth]\nenabled = true\n{text}\n")
    assert fates(plan, f"[nginx-http-auth] {setting}") == [Fate.BY_HAND]
    assert f"[nginx-http-auth] {setting}" in plan.rules_text()


def test_a_ban_without_end_becomes_the_longest_block() -> None:
    (rule,) = rules_of(plan_of("[nginx-http-auth]\nenabled = true\nbantime = -1\n")).values()
    assert rule.block_for_s == 366 * 86400


@pytest.mark.parametrize("text", ["", "enabled = true\n", "[sshd\n", "[a]\n%%%\n ]["])
def test_a_file_of_another_form_is_an_error(text: str) -> None:
    with pytest.raises(JailError):
        plan_of(text)


@pytest.mark.parametrize(("failures", "named"), [(4, False), (5, True)])
def test_the_rule_names_a_client_at_maxretry_failures(failures: int, named: bool) -> None:
    plan = plan_of("[nginx-http-auth]\nenabled = true\nmaxretry = 5\n")
    hits = [Hit(T0 + 60_000 * number, "192.0.2.1", status="401") for number in range(failures)]
    result: Any = replay([chunk(map(combined, hits))], [parse_rules(plan.rules_text())], Options())[0]
    assert bool(result.breaches) is named
