"""Reading what came: strict JSON and query strings into forms; every refusal says the field, the value and the form."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from chalicelib.admin.errors import Invalid, fault
from chalicelib.api.problems import Rejected
from chalicelib.api.schemas import Form

LARGEST_BODY = 256 * 1024
_F = TypeVar("_F", bound=Form)
_WHOLE = re.compile(r"-?\d{1,18}", re.ASCII)
_WHERE = re.compile(r" - at `(?:key in )?\$(.*)`$")
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]")
_NAMED = re.compile(r"Object (?:missing required|contains unknown) field `(.*?)`", re.DOTALL)


def read_body(raw: bytes, form: type[_F]) -> _F:
    """Raises Rejected for what is not strict JSON, Invalid for what does not fit the form."""
    return _fit(read_json(raw), form, "body")


def read_json(raw: bytes) -> Any:
    """Strict JSON: UTF-8, no key twice, no NaN, no half characters. Raises Rejected."""
    if len(raw) > LARGEST_BODY:
        detail = f"The body has {len(raw):,} bytes; at most {LARGEST_BODY:,} are accepted."
        raise Rejected(413, "too-large", "Too large", detail)
    try:
        text = raw.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_once_each, parse_constant=_no_constant)
        # An escape may stand for half a character, which nothing could write out again.
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeError as exc:
        raise _not_understood("it is not valid UTF-8") from exc
    except RecursionError as exc:
        raise _not_understood("it is nested too deeply") from exc
    except ValueError as exc:
        raise _not_understood(str(exc)) from exc
    return value


def read_query(parameters: Mapping[str, Sequence[str]], form: type[_F]) -> _F:
    """``parameters``: name to values. Raises Rejected for an unknown or repeated one, Invalid for a wrong value."""
    kinds = {field.encode_name: _bare(field.type) for field in _fields(form)}
    values: dict[str, Any] = {}
    for name, texts in parameters.items():
        if name not in kinds:
            known = f"known are {', '.join(kinds)}" if kinds else "there are none"
            detail = f"The query parameter {name[:64]!r} is unknown; {known}."
            raise Rejected(400, "bad-request", "Not understood", detail)
        if isinstance(kinds[name], inspect.ListType):
            values[name] = list(texts)
        elif len(texts) == 1:
            values[name] = _literal(texts[0], kinds[name])
        else:
            raise Rejected(400, "bad-request", "Not understood", f"The query parameter {name!r} comes more than once.")
    return _fit(values, form, "query")


def _fit(value: object, form: type[_F], place: str) -> _F:
    try:
        return msgspec.convert(value, form)
    except msgspec.ValidationError as exc:
        raise _misfit(str(exc), value, form, place) from None


def _misfit(message: str, value: object, form: type[Form], place: str) -> Invalid:
    """Msgspec's message in our form: the field, its value, and what would be accepted."""
    where = _WHERE.search(message)
    field, kind = "", inspect.type_info(form)
    for name, index in _STEP.findall(where[1] if where else ""):
        field += f"[{index}]" if index else f".{name}"
        value, kind = _step(value, kind, int(index) if index else name)
    named, struct = _NAMED.match(message), _bare(kind)
    if named is not None and isinstance(struct, inspect.StructType):
        forms = {f.encode_name: _form(f.type) for f in struct.fields}
        wanted = forms.get(named[1])
        accepted = f"missing: {wanted}" if wanted else f"unknown; known are {', '.join(forms) or 'none'}"
        return Invalid.of([fault(place, f"{field}.{named[1][:64]}".lstrip("."), None, accepted)])
    return Invalid.of([fault(place, field.lstrip("."), value, _form(kind))])


def _step(value: object, of: inspect.Type, step: str | int) -> tuple[object, inspect.Type]:
    kind = _bare(of)
    inner: object = None
    if (isinstance(value, dict) and step in value) or (isinstance(value, list) and isinstance(step, int)):
        inner = value[step]  # type: ignore[index]
    if isinstance(kind, inspect.StructType):
        return inner, next((f.type for f in kind.fields if f.encode_name == step), kind)
    return inner, kind.item_type if isinstance(kind, inspect.ListType) else kind


def _form(kind: inspect.Type) -> str:
    """The accepted form of a type, in words."""
    words = "a JSON object"
    match kind:
        case inspect.Metadata(type=inner, extra_json_schema=extra):
            words = str((extra or {}).get("description") or _form(inner))
        case inspect.UnionType(types=types):
            words = " or ".join(map(_form, types))
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
            words = f"a list of {low} to {high}"
    return words


def _bare(kind: inspect.Type) -> inspect.Type:
    """A type without what is said about it, and without null."""
    if isinstance(kind, inspect.Metadata):
        return _bare(kind.type)
    if isinstance(kind, inspect.UnionType):
        return next(_bare(inner) for inner in kind.types if not isinstance(inner, inspect.NoneType))
    return kind


def _fields(form: type[Form]) -> Sequence[inspect.Field]:
    kind = inspect.type_info(form)
    return kind.fields if isinstance(kind, inspect.StructType) else ()


def _literal(text: str, kind: inspect.Type) -> object:
    if isinstance(kind, inspect.IntType) and _WHOLE.fullmatch(text):
        return int(text)
    if isinstance(kind, inspect.BoolType) and text in ("true", "false"):
        return text == "true"
    return text


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:64]!r} comes twice")
    return table


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _not_understood(why: str) -> Rejected:
    return Rejected(400, "bad-request", "Not understood", f"The body is not valid JSON: {why}.")
