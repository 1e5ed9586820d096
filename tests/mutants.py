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
PYTEST = ("-m", "pytest", "-q", "-x", "-m", "not slow", "-p", "no:cacheprovider", "--hypothesis-profile", "fast")


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
_OF_WINDOWS = ("tests/unit/core/test_windows.py",)
_OF_DECISIONS = ("tests/unit/core/test_decisions.py", "tests/unit/pipeline/test_enforce.py")
_OF_ENFORCE = ("tests/unit/pipeline/test_enforce.py", "tests/unit/pipeline/test_enforce_breakers.py")
_OF_BREAKERS = ("tests/unit/core/test_breaker.py", "tests/unit/pipeline/test_rule_breakers.py")
_OF_PUBLISH = ("tests/unit/pipeline/test_publish.py",)
_OF_SWEEP = ("tests/unit/pipeline/test_sweep.py",)

MUTANTS = (
    # Counting
    Mutant(
        f"{_CORE}/tally.py",
        "lcm(pieces.get(topic, 1), counted.slot_ms)",
        "counted.slot_ms",
        ("tests/unit/core", "-k", "tally"),
    ),
    Mutant(f"{_CORE}/detections.py", "- rule.slot_ms - 1000", "", ("tests/unit/core/test_detections.py",)),
    Mutant(f"{_CORE}/view.py", "if len(bounds) == 1 else map(sum, zip(*bounds, strict=True))", "", _OF_WINDOWS),
    Mutant(f"{_CORE}/view.py", " or self._is_shared(key):", ":", _OF_WINDOWS),
    # Deciding
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
    Mutant(_ENFORCE, "others[:SAMPLE], Counter", "others, Counter", _OF_ENFORCE),
    Mutant(_ENFORCE, "if self._state.pause().paused:", "if False:", _OF_ENFORCE),
    Mutant(_ENFORCE, "past.until > history.ended_at", "False", _OF_ENFORCE),
    Mutant(_ENFORCE, "names if again else blocked", "blocked", _OF_ENFORCE),
    Mutant(_ENFORCE, "allowed.covers(span)", "allowed.meets(span)", _OF_ENFORCE),
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
    Mutant(_PUBLISH, "if self._state.pause().released:", "if False:", _OF_PUBLISH),
    Mutant(_PUBLISH, "self._free_at = self._clock() + PACE_S", "pass", _OF_PUBLISH),
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
