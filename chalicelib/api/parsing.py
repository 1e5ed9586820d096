"""Strict parsing of JSON bodies and query strings; every error names the field, its value and the accepted form."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from chalicelib.admin.errors import Invalid, fault
from chalicelib.admin.schemas import Form
from chalicelib.api.problems import BAD_REQUEST, TOO_LARGE, Rejected

LARGEST_BODY = 256 * 1024
"""Largest accepted body in bytes: a rule set of 100,000 characters fits at up to two bytes per character."""

_F = TypeVar("_F", bound=Form)
_INTEGER = re.compile(r"-?\d{1,18}", re.ASCII)
_PATH = re.compile(r" - at `(?:key in )?\$(.*)`$")
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]")
_NAMED_FIELD = re.compile(r"Object (?:missing required|contains unknown) field `(.*?)`", re.DOTALL)


def parse_body(raw: bytes, forms: Sequence[type[_F]]) -> _F:
    """Parses a body as one of several forms.

    The last form that shares a field with the body wins, and the first one if none does. Raises Rejected for a body
    that is not strict JSON, Invalid for one that does not fit its form.
    """
    value = parse_json(raw)
    keys = set(value) if isinstance(value, dict) else set()
    form = next((form for form in reversed(forms) if keys & set(form.__struct_encode_fields__)), forms[0])
    return _convert(value, form, "body")


def parse_json(raw: bytes) -> Any:
    """Parses strict JSON: UTF-8, no repeated key, no NaN, no lone surrogate. Raises Rejected."""
    if len(raw) > LARGEST_BODY:
        raise Rejected(TOO_LARGE, f"The body has {len(raw):,} bytes; at most {LARGEST_BODY:,} are accepted.")
    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique_keys, parse_constant=_reject_constant)
        # JSON may escape a lone surrogate, which could never be encoded again.
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeError as exc:
        raise _not_json("it is not valid UTF-8") from exc
    except RecursionError as exc:
        raise _not_json("it is nested too deeply") from exc
    except ValueError as exc:
        raise _not_json(str(exc)) from exc
    return value


def parse_query(parameters: Mapping[str, Sequence[str]], form: type[_F]) -> _F:
    """Parses query parameters, each with all its values.

    Raises Rejected for an unknown or repeated parameter, Invalid for a wrong value.
    """
    types = {name: _bare(kind) for name, kind in _fields(inspect.type_info(form)).items()}
    values: dict[str, Any] = {}
    for name, texts in parameters.items():
        if name not in types:
            known = ", ".join(types) or "none"
            raise Rejected(BAD_REQUEST, f"The query parameter {name[:64]!r} is unknown; this call takes {known}.")
        if isinstance(types[name], inspect.ListType):
            values[name] = list(texts)
        elif len(texts) == 1:
            values[name] = _literal(texts[0], types[name])
        else:
            raise Rejected(BAD_REQUEST, f"The query parameter {name!r} is repeated.")
    return _convert(values, form, "query")


def _convert(value: object, form: type[_F], location: str) -> _F:
    try:
        return msgspec.convert(value, form)
    except msgspec.ValidationError as exc:
        raise _invalid(str(exc), value, form, location) from None


def _invalid(message: str, value: object, form: type[Form], location: str) -> Invalid:
    """Translates a message of msgspec into the field, its value and the accepted form.

    msgspec raises no structured error, so its English is parsed; a test pins the messages this relies on.
    """
    path = _PATH.search(message)
    field, kind = "", inspect.type_info(form)
    for name, index in _STEP.findall(path[1] if path else ""):
        field += f"[{index}]" if index else f".{name}"
        value, kind = _step(value, kind, int(index) if index else name)
    named = _NAMED_FIELD.match(message)
    if named is not None:
        forms = {name: _accepted(inner) for name, inner in _fields(kind).items()}
        expected = forms.get(named[1])
        accepted = f"missing: {expected}" if expected else f"unknown; known fields: {', '.join(forms) or 'none'}"
        return Invalid(fault(location, f"{field}.{named[1][:64]}".lstrip("."), None, accepted))
    return Invalid(fault(location, field.lstrip("."), value, _accepted(kind)))


def _step(value: object, parent: inspect.Type, step: str | int) -> tuple[object, inspect.Type]:
    """Returns the value and the type one step further down the path, which an unknown field's name may imitate."""
    kind = _bare(parent)
    inner: object = None
    if (isinstance(value, dict) and step in value) or (isinstance(value, list) and isinstance(step, int)):
        inner = value[step]  # type: ignore[index]
    return inner, kind.item_type if isinstance(kind, inspect.ListType) else _fields(kind).get(str(step), kind)


def _accepted(kind: inspect.Type) -> str:
    """Describes the values that a type accepts."""
    words = "a JSON object"
    match kind:
        case inspect.Metadata(type=inner, extra_json_schema=extra):
            words = str((extra or {}).get("description") or _accepted(inner))
        case inspect.UnionType(types=types):
            words = " or ".join(map(_accepted, types))
        case inspect.NoneType():
            words = "null"
        case inspect.IntType(ge=low, le=high):
            words = f"a whole number from {low} to {high}"
        case inspect.BoolType():
            words = "true or false"
        case inspect.LiteralType(values=values) | inspect.EnumType(cls=values):
            words = f"one of {', '.join(map(str, values))}"
        case inspect.StrType(min_length=low, max_length=high):
            words = f"{low or 0} to {high} characters"
        case inspect.ListType(min_length=low, max_length=high):
            words = f"a list of {low} to {high} values"
    return words


def _bare(kind: inspect.Type) -> inspect.Type:
    """Returns a type without its metadata and without null."""
    if isinstance(kind, inspect.Metadata):
        return _bare(kind.type)
    if isinstance(kind, inspect.UnionType):
        return next(_bare(inner) for inner in kind.types if not isinstance(inner, inspect.NoneType))
    return kind


def _fields(kind: inspect.Type) -> dict[str, inspect.Type]:
    """Returns the type of each field of a struct; none for other types."""
    struct = _bare(kind)
    return {field.encode_name: field.type for field in struct.fields} if isinstance(struct, inspect.StructType) else {}


def _literal(text: str, kind: inspect.Type) -> object:
    """Returns the value that ``text`` stands for in a query string, or ``text`` itself if it stands for none."""
    if isinstance(kind, inspect.IntType) and _INTEGER.fullmatch(text):
        return int(text)
    if isinstance(kind, inspect.BoolType) and text in ("true", "false"):
        return text == "true"
    return text


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {repeated[:64]!r} is repeated")
    return table


def _reject_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _not_json(why: str) -> Rejected:
    return Rejected(BAD_REQUEST, f"The body is not valid JSON: {why}.")
