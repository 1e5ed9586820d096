"""``python -m tests.mutants``: small defects in what counts, decides and publishes, all noticed by tests.

The code is copied, so the working tree stays as it is. The exit status is 1 if a mutant survives, or if the code that
it changes is gone: the list then has to follow the code. It takes some minutes, so it belongs to no target of ``make``.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import click

ROOT = Path(__file__).parent.parent
COPIED = ("chalicelib", "sluice", "tests", "bench")
PYTEST = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--hypothesis-profile", "fast")


class Mutant(NamedTuple):
    """A defect: text of a file, what takes its place, and the tests that notice it."""

    file: str
    old: str
    new: str
    tests: tuple[str, ...]


_CORE, _PIPELINE = "chalicelib/core", "chalicelib/pipeline"
_DECISIONS = f"{_CORE}/decisions.py"
_BREAKER = f"{_CORE}/breaker.py"
_ENFORCE, _RULE_BREAKERS = f"{_PIPELINE}/enforce.py", f"{_PIPELINE}/rule_breakers.py"
_PUBLISH, _SWEEP = f"{_PIPELINE}/publish.py", f"{_PIPELINE}/sweep.py"
_FOLLOWED, _DOCTOR = f"{_PIPELINE}/followed_blocks.py", "sluice/deploy/doctor/deployment.py"
_OF_WINDOWS = ("tests/unit/core/test_windows.py",)
_OF_QUOTAS = ("tests/unit/core/test_roll_ups.py", "tests/unit/pipeline/test_quotas.py")
_OF_PATHS = ("tests/unit/core/test_paths.py",)
_OF_PAST_COUNTS = ("tests/unit/pipeline/test_past_counts.py",)
_OF_DECISIONS = ("tests/unit/core/test_decisions.py", "tests/unit/pipeline/test_enforce.py")
_OF_ENFORCE = ("tests/unit/pipeline/test_enforce.py", "tests/unit/pipeline/test_enforce_breakers.py")
_OF_BREAKERS = ("tests/unit/core/test_breaker.py", "tests/unit/pipeline/test_rule_breakers.py")
_OF_PUBLISH = ("tests/unit/pipeline/test_publish.py",)
_OF_SWEEP = ("tests/unit/pipeline/test_sweep.py",)
_OF_FOLLOWING = (*_OF_PUBLISH, "tests/unit/pipeline/test_followed_blocks.py")
_OF_DETECTIONS_OF_FLOODS = ("tests/hostile/test_floods.py", "-k", "one_detection_per_thousand")
_OF_SETUP = ("tests/unit/deploy/test_setup.py",)

MUTANTS = (
    # Counting
    Mutant(f"{_PIPELINE}/quotas.py", "self._view.settle()", "pass", _OF_QUOTAS),
    Mutant(f"{_PIPELINE}/quotas.py", "now_ms - reminder_ms(rule) for", "0 for", _OF_QUOTAS),
    Mutant(f"{_PIPELINE}/quotas.py", " if rule.extend else REMINDER_MS", "", _OF_QUOTAS),
    Mutant(f"{_PIPELINE}/quotas.py", "rule.block_for_s * 250", "REMINDER_MS", _OF_QUOTAS),
    Mutant(f"{_PIPELINE}/quotas.py", "if item.written_ms > self._read_ms", "if True", _OF_QUOTAS),
    Mutant(
        f"{_PIPELINE}/quotas.py",
        "report.conflicts += 1\n                    self._forget(quotas)",
        "report.conflicts += 1",
        _OF_QUOTAS,
    ),
    Mutant(f"{_PIPELINE}/quotas.py", "yield from self._shrink()\n        if", "if", _OF_QUOTAS),
    Mutant(f"{_CORE}/roll_ups.py", "TOPIC_BYTES] in counted", "TOPIC_BYTES] and counted", _OF_QUOTAS),
    Mutant(f"{_CORE}/meter_tally.py", "mine[:number4]", "mine[number4:]", _OF_QUOTAS),
    Mutant(
        f"{_CORE}/grid.py", "if part.settled]\n            stretch.ending", "]\n            stretch.ending", _OF_QUOTAS
    ),
    Mutant(
        f"{_CORE}/tally.py",
        "lcm(pieces.get(topic, 1), counted.slot_ms)",
        "counted.slot_ms",
        ("tests/unit/core", "-k", "tally"),
    ),
    Mutant(f"{_CORE}/detections.py", "- rule.slot_ms - 1000", "", ("tests/unit/core/test_detections.py",)),
    Mutant(f"{_CORE}/detections.py", "MOST_OFFENDERS = 1000", "MOST_OFFENDERS = 1", _OF_DETECTIONS_OF_FLOODS),
    Mutant(
        f"{_CORE}/detections.py",
        "islice(self._quiet_until, max(0, len(self._quiet_until) - MOST_ANNOUNCED))",
        "self._quiet_until if len(self._quiet_until) > MOST_ANNOUNCED else ()",
        ("tests/unit/core/test_detections.py",),
    ),
    Mutant(f"{_CORE}/view.py", "if len(bounds) == 1 else map(sum, zip(*bounds, strict=True))", "", _OF_WINDOWS),
    Mutant(f"{_CORE}/view.py", " or self._is_shared(key):", ":", _OF_WINDOWS),
    Mutant(
        f"{_CORE}/sampling.py",
        "return self if source is Source.CLOUDFRONT else WHOLE_LOG",
        "return self",
        ("tests/unit/core/test_sampling.py",),
    ),
    Mutant(f"{_CORE}/sampling.py", "FEWEST_LOGGED = 10", "FEWEST_LOGGED = 0", ("tests/unit/core/test_sampling.py",)),
    Mutant(f"{_CORE}/paths.py", "        path = unquote(path)", "        pass", _OF_PATHS),
    Mutant(f"{_CORE}/paths.py", "del segments[-1:]\n        elif", "pass\n        elif", _OF_PATHS),
    Mutant(
        "chalicelib/rules.toml",
        "aggregate = { ipv4 = 24, ipv6 = 48 }",
        "aggregate = { ipv6 = 64 }",
        ("tests/unit/test_initial_rules.py",),
    ),
    Mutant(
        f"{_CORE}/logs/batch_decoder.py",
        "PART_TEXT = 64 << 20",
        "PART_TEXT = 640 << 20",
        ("tests/hostile/test_lines.py", "-k", "valid_records"),
    ),
    # Going on where the time ran out
    Mutant(f"{_PIPELINE}/past_counts.py", "if pieces and time_left_s() < RESERVE_S:", "if False:", _OF_PAST_COUNTS),
    Mutant(f"{_PIPELINE}/past_counts.py", "if log in self._readings or ", "if ", _OF_PAST_COUNTS),
    Mutant(
        f"{_PIPELINE}/evaluate.py",
        "if behind and time_left_s() < RESERVE_S:",
        "if False:",
        ("tests/unit/pipeline/test_evaluate.py",),
    ),
    Mutant(_ENFORCE, "_chunks(cases, OFFENDERS_PER_SLICE)", "_chunks(cases, 1_000_000)", _OF_ENFORCE),
    # Deciding
    Mutant(
        _DECISIONS,
        "past = standing.history.rules.get(terms.name)\n    punished",
        "past = next(iter(standing.history.rules.values()), None)\n    punished",
        _OF_DECISIONS,
    ),
    Mutant(_DECISIONS, "if block is None or all(now < end for end in block.ends.values()):", "if True:", _OF_DECISIONS),
    Mutant(
        _DECISIONS,
        "return replace(block, blocked_at=now, begun_at=block.refuses_from)",
        "return block",
        _OF_DECISIONS,
    ),
    Mutant(_DECISIONS, "        until = _step_end(until, length_s)\n", "", _OF_ENFORCE),
    Mutant(f"{_PIPELINE}/stored.py", "meant += networks_meant(item.id, item.body)", "pass", _OF_ENFORCE),
    Mutant(
        f"{_CORE}/state/records.py",
        "except (msgspec.DecodeError, RecursionError) as exc:",
        "except ImportError as exc:",
        _OF_ENFORCE,
    ),
    Mutant(
        "chalicelib/edges/state_table.py",
        "if kind in SPREAD_KINDS else kind",
        "if False else kind",
        ("tests/contracts/test_state_store.py", "-k", "spread"),
    ),
    Mutant(_DECISIONS, "since_ms < standing.history.forgiven_at * 1000", "False", _OF_DECISIONS),
    Mutant(_DECISIONS, "if terms.extend else served_ms", "", _OF_DECISIONS),
    Mutant(
        _DECISIONS,
        "until, response = now + duration_s",
        "until, response = offender.last_ms // 1000 + duration_s",
        _OF_DECISIONS,
    ),
    Mutant(_DECISIONS, "(end + propagation_s) * 1000)", "end * 1000)", _OF_DECISIONS),
    Mutant(_DECISIONS, "[*others, *refusals", "[*refusals", _OF_DECISIONS),
    Mutant(_DECISIONS, "return past.offence + 1 if", "return past.offence if", _OF_DECISIONS),
    Mutant(_DECISIONS, "last_ms < (now - stale_after_s) * 1000", "last_ms < 0", _OF_ENFORCE),
    Mutant(_ENFORCE, "Divided(enforced, others[:SAMPLE], rest)", "Divided(enforced, others, rest)", _OF_ENFORCE),
    Mutant(_ENFORCE, "if self._state.pause(now).paused:", "if False:", _OF_ENFORCE),
    Mutant(_ENFORCE, "past.until > history.ended_at", "False", _OF_ENFORCE),
    Mutant(_ENFORCE, "names if again else blocked", "blocked", _OF_ENFORCE),
    Mutant(
        _ENFORCE,
        "self._state.get_many(Block, names if again else blocked)",
        "{block.id: block for block in self._state.all(Block)}",
        _OF_ENFORCE,
    ),
    Mutant(f"{_CORE}/exemptions.py", "self.networks.covers(span)", "self.networks.meets(span)", _OF_ENFORCE),
    Mutant(
        _ENFORCE, "written.overtaken.extend(case for client in chunk for case in client.cases)", "pass", _OF_ENFORCE
    ),
    # Breakers
    Mutant(_BREAKER, "if len(hits) <= most:", "if len(hits) <= most + 1:", _OF_BREAKERS),
    Mutant(_BREAKER, "time > now - WINDOW_S", "time > now - 2 * WINDOW_S", _OF_BREAKERS),
    Mutant(_BREAKER, "known.marks * self.share / 100", "known.marks * self.share / 10", _OF_BREAKERS),
    Mutant(_BREAKER, "if mark in taken:", "if False:", _OF_BREAKERS),
    Mutant(_BREAKER, "if rule_set < breaker.rule_set:", "if False:", _OF_BREAKERS),
    Mutant(_BREAKER, " if judgement.breaker.stopped_at else judgement", "", _OF_BREAKERS),
    Mutant(_BREAKER, "limits.most_hits(known) * CALM", "limits.most_hits(known)", _OF_BREAKERS),
    Mutant(_RULE_BREAKERS, "known is not None and block.familiar", "known is not None", _OF_BREAKERS),
    Mutant(_RULE_BREAKERS, "bool(judgement.waiting) or ", "", _OF_BREAKERS),
    Mutant(f"{_PIPELINE}/waiting.py", "and offender.count < 2 * count", "", ("tests/unit/pipeline/test_waiting.py",)),
    # Publishing
    Mutant(_PUBLISH, "during the wait\n                continue", "during the wait", _OF_PUBLISH),
    Mutant(_PUBLISH, "known is None or latest.get(ip_set) != known.token", "known is None", _OF_PUBLISH),
    Mutant(_PUBLISH, "if self._state.pause(now).released:", "if False:", _OF_PUBLISH),
    Mutant(_PUBLISH, "(self._was_pressing or not pressing)", "not pressing", _OF_PUBLISH),
    Mutant(_PUBLISH, "or any(map(compared.allowlist.overlaps, published[ip_set] - networks))", "", _OF_PUBLISH),
    Mutant(_PUBLISH, "self._free_at = self._clock() + PACE_S", "pass", _OF_PUBLISH),
    Mutant(_PUBLISH, "if self._clock() > begun + ENOUGH_S and changes.keys() <= updated:", "if False:", _OF_PUBLISH),
    Mutant(
        _PUBLISH,
        "failed |= {ip_set: why for ip_set in changes if ip_set not in updated}",
        "failed |= dict.fromkeys(changes, why)",
        _OF_PUBLISH,
    ),
    Mutant(_FOLLOWED, "if self._list is None or stored.record.name != self._name:", "if True:", _OF_FOLLOWING),
    Mutant(
        _FOLLOWED,
        "if self._list is None or stored.record.name != self._name:",
        "if self._list is None:",
        _OF_FOLLOWING,
    ),
    Mutant(_FOLLOWED, "if not in_step or self._clock() >= self._read_at + REREAD_S:", "if not in_step:", _OF_FOLLOWING),
    Mutant(
        "sluice/deploy/rule_group.py",
        "    if behind_proxies:\n",
        "    if False:\n",
        ("tests/unit/deploy/test_behind_proxies.py",),
    ),
    # Ending by hand
    Mutant(f"{_PIPELINE}/lifting.py", "replace(history, forgiven_at=now + 1)", "history", _OF_ENFORCE),
    # Setting up, and looking after it
    Mutant(
        "sluice/deploy/policies.py",
        'for key in (kind, f"{kind}#*")]',
        'for key in ("*",)]',
        ("tests/unit/deploy/test_policies.py",),
    ),
    Mutant(
        "sluice/commands/shared/output.py",
        "Text(printable(str(cell)))",
        "Text(str(cell))",
        ("tests/hostile/test_text.py",),
    ),
    Mutant(_DOCTOR, "and parallel != 1:", "and False:", ("tests/unit/deploy/test_doctor.py", "-k", "parallel")),
    Mutant(_DOCTOR, "if reserved == 0:", "if False:", ("tests/unit/deploy/test_doctor.py", "-k", "throttled")),
    Mutant(
        "sluice/deploy/resources/logs.py",
        '"RedactedFields": list(REDACTED)}',
        '"RedactedFields": []}',
        (*_OF_SETUP, "-k", "secrets"),
    ),
    Mutant(
        "sluice/deploy/resources/streams.py",
        'if existing.facts["encrypted"] != self.stage.choices.stream_encryption:',
        "if False:",
        (*_OF_SETUP, "-k", "encrypted"),
    ),
    Mutant(
        "sluice/deploy/resources/tables.py",
        "        if protection:\n",
        "        if False:\n",
        (*_OF_SETUP, "-k", "encrypted"),
    ),
    Mutant(
        "sluice/deploy/resources/chalice_config.py",
        "if reserved and self.stage.choices.shards > reserved:",
        "if False:",
        (*_OF_SETUP, "-k", "container_of_ingest"),
    ),
    Mutant(
        "sluice/deploy/resources/event_sources.py",
        '"BisectBatchOnFunctionError": True,\n            "Max',
        '"BisectBatchOnFunctionError": False,\n            "Max',
        ("tests/unit/deploy/test_doctor.py", "-k", "event_source or each_problem"),
    ),
    Mutant(
        "sluice/deploy/policies.py",
        "log-group:{stage.log_group(function)}:*",
        "log-group:/aws/lambda/sluice-{stage.name}*:*",
        ("tests/unit/deploy/test_policies.py", "-k", "log_group"),
    ),
    # Ending
    Mutant(_SWEEP, "if not b.record.in_force(now)]", "]", _OF_SWEEP),
    Mutant(_SWEEP, "abs(now - note.at) <= NOTE_VALID_S", "True", _OF_SWEEP),
    Mutant(
        f"{_PIPELINE}/lifting.py",
        "if block.record.in_force(now):",
        "if False:",
        ("tests/unit/pipeline/test_enforce.py", *_OF_SWEEP),
    ),
)


def judged(mutants: Iterable[Mutant]) -> Iterable[tuple[Mutant, str]]:
    """Yields each mutant with the reason why it has not been killed; an empty text if it has."""
    with TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in COPIED:
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "app.py"):
            shutil.copy(ROOT / name, copy / name)
        for mutant in mutants:
            path = copy / mutant.file
            text = path.read_text()
            if mutant.old not in text:
                yield mutant, "the code is gone"
                continue
            path.write_text(text.replace(mutant.old, mutant.new, 1))
            ran = subprocess.run([sys.executable, *PYTEST, *mutant.tests], cwd=copy, capture_output=True, check=False)
            path.write_text(text)
            yield mutant, {0: "no test fails", 1: ""}.get(ran.returncode, f"pytest ended with {ran.returncode}")


@click.command()
def main() -> None:
    """Run the mutants, and name those that no test notices."""
    alive = 0
    for mutant, why in judged(MUTANTS):
        alive += bool(why)
        click.echo(f"{why or 'killed'}: {mutant.file}: {mutant.old.strip()!r} -> {mutant.new.strip()!r}")
    click.echo(f"{len(MUTANTS) - alive} of {len(MUTANTS)} killed")
    sys.exit(bool(alive))


if __name__ == "__main__":
    main()
