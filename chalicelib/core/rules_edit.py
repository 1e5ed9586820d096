"""Edits of a rule set's text that keep everything else of it: comments, order and spelling.

An edit replaces one value, or adds one line. Its result is read again and compared with what it should say, so that an
unusual spelling is an error and never another rule set.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping

_HEADER = re.compile(r"\s*\[")
_RULE = re.compile(r"\s*\[\[\s*rule\s*\]\]\s*(#.*)?")


class EditError(ValueError):
    """An edit that cannot be made; the message says why."""


def edited(text: str, rule: str, values: Mapping[str, str | int]) -> str:
    """Returns valid TOML ``text`` with other values of keys of the rule called ``rule``.

    Raises EditError if there is no such rule, or if it is spelled in a way that is not edited.

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
            f"there is no rule {rule!r}; existing: {', '.join(str(t.get('name')) for t in tables) or 'none'}"
        )
    for key, value in values.items():
        tables[numbers[0]][key] = value
    lines = text.splitlines(keepends=True)
    starts = [number for number, line in enumerate(lines) if _RULE.fullmatch(line.rstrip("\r\n"))]
    if len(starts) == len(tables):
        start = starts[numbers[0]]
        end = next((n for n in range(start + 1, len(lines)) if _HEADER.match(lines[n])), len(lines))
        table = list(_with_values(lines[start:end], values))
        result = "".join([*lines[:start], *table, *lines[end:]])
        if _is(result, document):
            return result
    raise EditError(f"rule {rule!r} is spelled in a way that cannot be edited here; change the text itself")


def _with_values(lines: list[str], values: Mapping[str, str | int]) -> Iterator[str]:
    """Yields the lines of a rule's table with ``values``; a key that it does not have follows its name."""
    keys = {key: re.compile(rf"(\s*{key}\s*=\s*)(\"[^\"]*\"|'[^']*'|[^\s#\"']+)(.*)", re.DOTALL) for key in values}
    missing = {key for key, pattern in keys.items() if not any(map(pattern.fullmatch, lines))}
    for line in lines:
        key, match = next(((key, m) for key, pattern in keys.items() if (m := pattern.fullmatch(line))), ("", None))
        yield line if match is None else f"{match[1]}{json.dumps(values[key])}{match[3]}"
        if re.match(r"\s*name\s*=", line):
            end = "\r\n" if line.endswith("\r\n") else "\n"
            if not line.endswith("\n"):
                yield end
            yield from (f"{key} = {json.dumps(values[key])}{end}" for key in values if key in missing)


def _is(text: str, document: Mapping[str, object]) -> bool:
    try:
        return tomllib.loads(text) == document
    except tomllib.TOMLDecodeError:
        return False
