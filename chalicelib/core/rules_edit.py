"""Edits of a rule set's text that keep everything else in it: comments, order and spelling.

An edit replaces a value, adds a line, or removes one. Its result is read again and compared with what it should say, so
that an unusual spelling leads to an error and never to a different rule set.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from chalicelib.core.durations import utc_text

_HEADER = re.compile(r"\s*\[")
_RULE = re.compile(r"\s*\[\[\s*rule\s*\]\]\s*(#.*)?")

Value = str | int | datetime | None
"""A key's new value; None removes the key."""


class EditError(ValueError):
    """An edit that cannot be made; the message says why."""


def edited(text: str, rule: str, values: Mapping[str, Value]) -> str:
    """Returns valid TOML ``text`` with new ``values`` for keys of the rule called ``rule``.

    Raises EditError if there is no such rule, or if it is written in a way that cannot be edited.

    >>> print(edited('[[rule]]\\nname = "burst"  # pages\\nlimit = 50  # of them\\n', "burst", {"limit": 40}))
    [[rule]]
    name = "burst"  # pages
    limit = 40  # of them
    <BLANKLINE>
    """
    document = tomllib.loads(text)
    tables = document.get("rule", [])
    numbers = [number for number, table in enumerate(tables) if table.get("name") == rule]
    if not numbers:
        raise EditError(
            f"there is no rule {rule!r}; existing rules: {', '.join(str(t.get('name')) for t in tables) or 'none'}"
        )
    table = tables[numbers[0]]
    table |= values
    for key in [key for key in values if values[key] is None]:
        table.pop(key)
    lines = text.splitlines(keepends=True)
    starts = [number for number, line in enumerate(lines) if _RULE.fullmatch(line.rstrip("\r\n"))]
    if len(starts) == len(tables):
        start = starts[numbers[0]]
        end = next((n for n in range(start + 1, len(lines)) if _HEADER.match(lines[n])), len(lines))
        result = "".join([*lines[:start], *_with_values(lines[start:end], values), *lines[end:]])
        if _is(result, document):
            return result
    raise EditError(f"rule {rule!r} is written in a way that cannot be edited here; change the text itself")


def _with_values(lines: list[str], values: Mapping[str, Value]) -> Iterator[str]:
    """Yields the lines of a rule's table with ``values``; a key that it does not have follows its name."""
    texts = {key: _text(value) for key, value in values.items() if value is not None}
    keys = {key: re.compile(rf"(\s*{key}\s*=\s*)(\"[^\"]*\"|'[^']*'|[^\s#\"']+)(.*)", re.DOTALL) for key in values}
    missing = {key for key, pattern in keys.items() if not any(map(pattern.fullmatch, lines))}
    for line in lines:
        key, match = next(((key, m) for key, pattern in keys.items() if (m := pattern.fullmatch(line))), ("", None))
        if match is None:
            yield line
        elif key in texts:
            yield f"{match[1]}{texts[key]}{match[3]}"
        if re.match(r"\s*name\s*=", line):
            end = "\r\n" if line.endswith("\r\n") else "\n"
            if not line.endswith("\n"):
                yield end
            yield from (f"{key} = {text}{end}" for key, text in texts.items() if key in missing)


def end_of_pause(epoch_s: int) -> Value:
    """Returns the value of ``paused_until`` for a pause until the epoch second ``epoch_s``; None, for no pause, if it
    is 0."""
    return datetime.fromtimestamp(epoch_s, UTC) if epoch_s else None


def edit_words(key: str, value: Value) -> str:
    """Returns an edit in a few words.

    >>> edit_words("limit", 40), edit_words("paused_until", None)
    ('limit 40', 'no paused_until')
    """
    return f"no {key}" if value is None else f"{key} {value if isinstance(value, str) else _text(value)}"


def _text(value: str | int | datetime) -> str:
    return utc_text(int(value.timestamp())) if isinstance(value, datetime) else json.dumps(value)


def _is(text: str, document: Mapping[str, object]) -> bool:
    try:
        return tomllib.loads(text) == document
    except tomllib.TOMLDecodeError:
        return False
