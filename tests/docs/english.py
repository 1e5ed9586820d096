"""``python -m tests.docs.english``: finds prose that breaks the rules of English in CONTRIBUTING.md.

Reads the docstrings and comments of the code and the pages under ``docs``, and prints one line per broken rule. Not
every rule can be checked by a program: names, voice and word order are left to reviewers.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

from tests.support.statements import statements_of

ROOT = Path(__file__).parents[2]
CODE = ("app.py", "chalicelib", "sluice", "bench", "tests/support")
PAGES = ("*.md", "docs/**/*.md")

OPENING = re.compile(r"\s*(?:What|How|Of|That|Who|Whom|Whose|Whether)\b(?! else)")
THING = (
    r"(?:record|request|client|shard|batch|rule|row|line|field|column|kind|cell|group|family|container|address|module)"
)
LINK = r"(?:of|in|on|at|by|to|as|is|for|from|with|under|into|than|over|or|and|per|that|which|has|makes|was|if)"
PER = re.compile(
    rf"\b(?:one|once|twice|\d(?:[\d,.]*\d)?|an?) (?:(?!{LINK}\b)[\w-]+ ){{0,2}}an? {THING}\b(?! (?:ago|later))"
)
WORDS = re.compile(r"\b(?:somebody|nobody|everybody|anybody|whoever|whomever|anew|told)\b", re.IGNORECASE)
QUOTED = re.compile(r"```.*?```|``[^`]*``|`[^`]*`|\"[^\"]*\"", re.DOTALL)


UNCHECKED = ("__init__", "command(", "group(", "property", "fixture")
"""Functions whose docstring need not begin with a verb in the third person, by their name or their decorators.

A constructor's describes its arguments, a command's is its help text, and a property's describes a value.
"""


def bare_openings(path: Path) -> Iterator[tuple[int, str]]:
    """Yields line and first word of each function's docstring that does not begin like "Returns"."""
    for node in statements_of(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            words = (ast.get_docstring(node) or "Is").split()
            marks = [node.name, *map(ast.unparse, node.decorator_list)]
            if not re.fullmatch(r"[A-Z]\w*s[,.:]?", words[0]) and not any(u in m for u in UNCHECKED for m in marks):
                yield node.body[0].lineno, words[0]


def prose(path: Path) -> Iterator[tuple[int, str, bool]]:
    """Yields line, text and whether it is a docstring, of every comment, docstring or paragraph in a file."""
    text = path.read_text("utf-8")
    if path.suffix == ".md":
        line = 1
        for paragraph in re.split(r"(?<=\n)\n", text):
            yield line, paragraph, False
            line += paragraph.count("\n") + 1
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string, False
    for node in statements_of(path):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value, True


def findings(path: Path) -> Iterator[str]:
    """Yields each broken rule of a file as ``path:line: text``."""
    for line, text, is_docstring in prose(path):
        unquoted = QUOTED.sub(lambda quote: "." + "\n" * quote[0].count("\n"), text)
        matches = [OPENING.match(text)] if is_docstring else []
        for match in [*matches, *PER.finditer(unquoted), *WORDS.finditer(unquoted)]:
            if match:
                at = line + match.string.count("\n", 0, match.start())
                yield f"{path.relative_to(ROOT)}:{at}: {' '.join(match[0].split())!r}"
    if path.suffix == ".py":
        for line, word in bare_openings(path):
            yield f"{path.relative_to(ROOT)}:{line}: {word!r} is not a verb such as 'Returns'"


def main() -> int:
    """Prints all broken rules and returns the exit status: 1 if there are any."""
    code = [path for name in CODE for path in ([ROOT / name] if name.endswith(".py") else (ROOT / name).rglob("*.py"))]
    pages = [page for pattern in PAGES for page in ROOT.glob(pattern)]
    problems = [problem for path in sorted([*code, *pages]) for problem in findings(path)]
    sys.stdout.write("".join(f"{problem}\n" for problem in problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
