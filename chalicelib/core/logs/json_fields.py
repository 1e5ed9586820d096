"""JSON access logs of any other program, by a mapping of columns to the keys that the program uses.

So a container, a web server or an application can log to CloudWatch and be limited. A key may name a value of a nested
object, with dots between: ``request.remote_ip``. Times may be epoch seconds or milliseconds, ISO 8601 or of the common
log format.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

import msgspec

from chalicelib.core.addresses import AddressMemo, pack
from chalicelib.core.logs.cloudfront import time_ms
from chalicelib.core.logs.columns import url_path
from chalicelib.core.logs.forwarded import without_port
from chalicelib.core.logs.json_values import flat_bytes, plain_text
from chalicelib.core.logs.log_format import DecodeOptions, ObjectFormat
from chalicelib.core.logs.requests import (
    BYTES,
    FORWARDED_FOR,
    TIME_TAKEN,
    Column,
    Malformed,
    Reason,
    Requests,
    Source,
    host_name,
)
from chalicelib.core.logs.times import TimeMemo, clf_ms, iso_ms, milliseconds

TIME, CLIENT = "time", "client"


def _plain(value: str) -> str:
    return "" if value == "-" else value


READ: dict[str, Callable[[str], str]] = {
    "host": host_name,
    "path": url_path,
    "method": _plain,
    "status": _plain,
    "country": _plain,
    "user_agent": _plain,
    "asn": _plain,
    "content_type": _plain,
    "ja3": _plain,
    "ja4": _plain,
    "referer": _plain,
    BYTES: _plain,
    TIME_TAKEN: milliseconds,
    FORWARDED_FOR: _plain,
}
"""For each column that a key may hold: how to read its text."""

NAMES = (TIME, CLIENT, *READ)

JsonFields = tuple[tuple[str, str], ...]


def parse_json_fields(text: str) -> JsonFields:
    """Returns pairs of a column and its key; none for an empty text. Raises ValueError with the accepted form.

    >>> parse_json_fields("time=ts, client=remote_addr, status=status")
    (('time', 'ts'), ('client', 'remote_addr'), ('status', 'status'))
    """
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    fields = tuple((name.strip(), key.strip()) for name, _, key in pairs)
    for name, key in fields:
        if name not in NAMES:
            raise ValueError(f"unknown column {name!r}; the columns are {', '.join(NAMES)}")
        if not key:
            raise ValueError(f"{name!r} lacks its key, as in {name}=KEY")
    names = [name for name, _ in fields]
    if len(set(names)) < len(names):
        raise ValueError("a column is named twice")
    if fields and not {TIME, CLIENT} <= set(names):
        raise ValueError(f"{TIME!r} and {CLIENT!r} are needed")
    return fields


def value_at(members: Mapping[str, Any], key: str) -> Any:
    """Returns the value of a key, or of a path of keys with dots between; None if there is none.

    >>> value_at({"a": {"b": 1}, "c.d": 2}, "a.b"), value_at({"a": {"b": 1}, "c.d": 2}, "c.d"), value_at({}, "a.b")
    (1, 2, None)
    """
    if key in members:
        return members[key]
    head, _, rest = key.partition(".")
    inner = members.get(head)
    return value_at(inner, rest) if rest and isinstance(inner, dict) else None


def moment_ms(cell: bytes) -> int | None:
    return next((t for t in (time_ms(cell), iso_ms(cell), clf_ms(cell)) if t is not None), None)


class JsonRecords:
    """A reader of objects, as records of one text per column."""

    def __init__(self, preceding: Sequence[frozenset[str]], options: DecodeOptions) -> None:
        """``preceding``: the keys of each format that precedes this one."""
        self._preceding = preceding
        self._keys = dict(options.json_fields)
        self._trusted = options.trusted
        self._addresses = AddressMemo()
        self._times = TimeMemo(moment_ms)
        self._decoder = msgspec.json.Decoder(dict[str, Any])

    def read(self, text: bytes | str) -> dict[str, bytes]:
        return self._record(self._decoder.decode(text))

    def read_lines(self, text: bytes | str) -> list[dict[str, bytes]]:
        return list(map(self._record, self._decoder.decode_lines(text)))

    def salvage(self, members: Mapping[str, Any], text: bytes) -> dict[str, bytes] | Reason:  # noqa: ARG002
        try:
            return self._record(members)
        except msgspec.ValidationError:
            return Reason.FIELDS

    def _record(self, members: Mapping[str, Any]) -> dict[str, bytes]:
        if any(keys <= members.keys() for keys in self._preceding):
            raise msgspec.ValidationError("an object in a format that takes precedence")
        values = {name: plain_text(value_at(members, key)) for name, key in self._keys.items()}
        if values[TIME] is None or values[CLIENT] is None:
            raise msgspec.ValidationError("an object without a time or a client")
        return {
            name: flat_bytes(value if isinstance(value, str | int | float) else None) for name, value in values.items()
        }

    def requests(self, records: Sequence[dict[str, bytes]]) -> tuple[Requests, list[Malformed]]:
        texts = list(map(itemgetter(CLIENT), records))
        clients = self._addresses.pack_all(texts)
        if None in clients:
            pairs = zip(clients, texts, strict=True)
            clients = [client or pack(without_port(text.decode("utf-8", "replace"))) for client, text in pairs]

        def columns(name: str) -> Column | None:
            if name not in READ or name not in self._keys:
                return None
            return Column(
                list(map(itemgetter(name), records)), lambda cell: READ[name](_plain(cell.decode("utf-8", "replace")))
            )

        return Requests.of_valid(
            Source.JSON,
            self._times.parse_all(map(itemgetter(TIME), records)),
            clients,
            columns,
            trusted=self._trusted,
            piece=texts.__getitem__,
        )


def json_access_log(preceding: Iterable[ObjectFormat]) -> ObjectFormat:
    """Returns the format of all objects that have the keys of none of the ``preceding`` formats."""
    keys = [frozenset(each.keys) for each in preceding]
    return ObjectFormat("JSON access log", Source.JSON, (), partial(JsonRecords, keys))
