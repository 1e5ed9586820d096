"""The plan of a migration: rules with the origin of each line, lists to import, and the fate of every setting."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from chalicelib.core.addresses import Network
from chalicelib.core.printable import printable

COMMENT_COLUMN = 32
"""Column at which the comments of short lines begin, so that they are aligned."""

TomlValue = str | int | bool | Sequence[str]


class Fate(StrEnum):
    """The part of Sluice that takes a setting over, if any does."""

    RULE = "rule"
    ALLOWLIST = "allowlist"
    BLOCKS = "blocks"
    SOURCE = "log source"
    WEB_ACL = "web ACL"
    UNUSED = "not used"
    """Without effect in the old configuration as well, or not needed any more."""
    BY_HAND = "by hand"
    """Not migrated: an operator has to decide."""


@dataclass(frozen=True, slots=True)
class Row:
    """The fate of one setting, key or list of the old configuration."""

    setting: str
    value: str
    fate: Fate
    detail: str


@dataclass(frozen=True, slots=True)
class RuleLine:
    """A line of a rule: a key with its value, and perhaps a comment."""

    key: str
    value: str
    """As TOML."""
    comment: str = ""

    def text(self) -> str:
        line = f"{self.key} = {self.value}"
        return f"{line:<{COMMENT_COLUMN - 2}}  # {printable(self.comment)}" if self.comment else line


@dataclass(frozen=True, slots=True)
class MigratedRule:
    """A rule of the new rule set. It counts, and blocks no client."""

    name: str
    lines: tuple[RuleLine, ...]
    notes: tuple[str, ...] = ()
    """Comments above the rule: differences that belong to no line."""

    def text(self) -> str:
        notes = [f"# {printable(note)}" for note in self.notes]
        return "\n".join([*notes, "[[rule]]", f"name = {toml(self.name)}", *(line.text() for line in self.lines)])


@dataclass(frozen=True, slots=True)
class Import:
    """A network of a list in the old configuration."""

    network: Network
    until: int | None
    """End in epoch seconds; None if the old list has none."""
    origin: str
    """Name of the list."""
    allowed: bool
    """True for a network that is never blocked, False for one that is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A whole migration."""

    title: str
    """Name of the old configuration."""
    rules: tuple[MigratedRule, ...]
    rows: tuple[Row, ...]
    allowlist: tuple[Import, ...] = ()
    blocks: tuple[Import, ...] = ()
    managed_groups: tuple[str, ...] = ()
    """AWS's managed rule groups that the web ACL has, and keeps."""
    setups: tuple[str, ...] = ()
    """Options of the runs of ``sluice setup``, in order, that let Sluice count beside the old limiter."""

    def rules_text(self) -> str:
        """Returns the rule set as TOML, with the origin of each line."""
        heading = [
            f"Migrated from {self.title}.",
            'All rules only count. Change action to "block" when the old limiter is switched off.',
        ]
        open_questions = [row for row in self.rows if row.fate is Fate.BY_HAND]
        if open_questions:
            heading.append("Not migrated, decide by hand:")
            heading += [f"  {row.setting} = {row.value}: {row.detail}" for row in open_questions]
        comments = "\n".join(f"# {printable(line)}" for line in heading)
        return "\n\n".join([comments, *(rule.text() for rule in self.rules)]) + "\n"


def toml(value: TomlValue) -> str:
    """Returns a value as TOML.

    >>> toml("a\\"b"), toml(["x", "y"]), toml(True), toml(3)
    ('"a\\\\"b"', '["x", "y"]', 'true', '3')
    """
    if isinstance(value, str | bool | int):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return f"[{', '.join(map(toml, value))}]"


def inline(table: Iterable[tuple[str, str]]) -> str:
    """Returns an inline table of keys and values in TOML.

    >>> inline([("status", '["404"]')])
    '{ status = ["404"] }'
    """
    return f"{{ {', '.join(f'{key} = {value}' for key, value in table)} }}"


def unique_names(stems: Iterable[str]) -> Iterator[str]:
    """Yields a rule name for each stem, in order: of letters, digits and hyphens, at most 64 long, each once.

    >>> list(unique_names(["http-flood-/a/b.php", "http-flood-/a.b/php", "http-flood-/"]))
    ['http-flood-a-b-php', 'http-flood-a-b-php-2', 'http-flood']
    """
    used: set[str] = set()
    for stem in stems:
        words = "".join(char if char.isascii() and char.isalnum() else " " for char in stem).split()
        name = base = "-".join(words)[:60].strip("-") or "rule"
        number = 2
        while name in used:
            name, number = f"{base}-{number}", number + 1
        used.add(name)
        yield name
