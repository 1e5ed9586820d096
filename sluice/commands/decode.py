"""``sluice decode``: the requests that the production decoder reads from lines, files or a recorded Lambda event."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from ipaddress import ip_address
from itertools import chain, islice

import click
import msgspec
from rich.console import Console

from chalicelib.core.addresses import Network, NetworkSet
from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.logs.json_fields import JsonFields
from chalicelib.core.logs.log_format import DecodeOptions
from chalicelib.core.logs.malformed_counts import MalformedCounts, added, counted
from chalicelib.core.logs.requests import COLUMNS, NO_ID, Decoded, Requests
from chalicelib.core.printable import printable
from chalicelib.core.wording import plural
from sluice.commands.shared.logs import LogNames, decoder_options, explained, files_argument, json_option, opened
from sluice.commands.shared.output import output, table
from sluice.commands.shared.times import utc
from sluice.logs.file_decoder import LogDecoder

MOST_ROWS = 50
"""Requests in the table; ``--json`` prints all."""

_TEXTS = ("method", "host", "path", "status")


class DecodedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request as rules see it. A text is null if the log does not have it, and empty if it is empty in the log."""

    time_ms: int
    client: str
    method: str | None
    host: str | None
    path: str | None
    status: str | None
    source: str
    id: str | None


@click.command()
@files_argument
@click.option("--kinesis-event", is_flag=True, help="Read each FILE as the JSON of a Lambda event of a Kinesis stream.")
@decoder_options
@json_option
def decode(
    files: LogNames,
    kinesis_event: bool,
    fields: tuple[str, ...],
    trusted: tuple[Network, ...],
    json_fields: JsonFields,
    as_json: bool,
) -> None:
    """Show what the production decoder makes of lines, files or a recorded Lambda event.

    Shows the requests, and what is malformed: by reason, with a sample, its place and a remedy. A repeat is a request
    whose id occurred before in the same batch, or in the same megabyte of a file; it counts once.

    \b
    sluice decode access.log.gz
    head -n 20 lines.log | sluice decode - --fields timestamp,c-ip,sc-status
    sluice decode event.json --kinesis-event --json
    """
    options = DecodeOptions(fields, COLUMNS, NetworkSet(trusted), json_fields)
    decoded = _events(files, options) if kinesis_event else _lines(files, options)
    if as_json:
        _print_json(decoded)
    else:
        _show(decoded, output())


DecodedPart = tuple[Decoded, MalformedCounts]
"""A piece of the input, and its malformed pieces with their places."""


def _lines(files: LogNames, options: DecodeOptions) -> Iterator[DecodedPart]:
    with opened(files) as (chunks, progress):
        decoder = LogDecoder(options)
        for chunk in chunks:
            decoded = decoder.decode(chunk)
            distinct = tuple(requests.without_repeats() for requests in decoded.requests)
            repeats = decoded.repeats + len(decoded) - sum(map(len, distinct))
            yield replace(decoded, requests=distinct, repeats=repeats), counted(decoded.malformed, chunk.where)
    for note in progress.notes:
        click.echo(f"note: {printable(note)}", err=True)


class _Kinesis(msgspec.Struct):
    data: bytes


class _Record(msgspec.Struct):
    kinesis: _Kinesis


class _Event(msgspec.Struct):
    records: list[_Record] = msgspec.field(name="Records")


def _events(files: LogNames, options: DecodeOptions) -> Iterator[DecodedPart]:
    try:
        decoder = BatchDecoder(options.realtime_fields, options.trusted, options.json_fields)
    except ValueError as exc:
        raise click.ClickException(str(exc)) from exc
    for name in files.names:
        records = _records(name)
        decoded = decoder.decode(records)
        yield decoded, counted(decoded.malformed, partial(_place, printable(name), records))


def _records(name: str) -> list[bytes]:
    """Returns the data of the records in a recorded event. Raises ClickException."""
    try:
        with click.open_file(name, "rb") as file:
            event = msgspec.json.decode(file.read(), type=_Event)
    except OSError as exc:
        raise click.ClickException(f"{printable(name)}: {exc.strerror}") from exc
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        form = '{"Records": [{"kinesis": {"data": "base64"}}]}'
        raise click.ClickException(f"{printable(name)}: not a Kinesis event such as {form}: {exc}") from exc
    return [record.kinesis.data for record in event.records]


def _place(name: str, records: Sequence[bytes], piece: bytes) -> str:
    """Returns the event and the number of the record that holds ``piece``; the event alone if it is compressed."""
    number = next((number for number, record in enumerate(records, 1) if piece in record), None)
    return name if number is None else f"{name}, record {number}"


def _requests(batch: Requests) -> Iterator[DecodedRequest]:
    columns = map(batch.columns, _TEXTS)
    texts = [[None] * len(batch) if column is None else column.texts() for column in columns]
    ids = batch.ids or [""] * len(batch)
    for time_ms, client, request_id, *cells in zip(batch.times, batch.clients, ids, *texts, strict=True):
        text = request_id.decode("utf-8", "replace") if isinstance(request_id, bytes) else request_id
        yield DecodedRequest(
            time_ms=time_ms,
            client=str(ip_address(client)),
            source=str(batch.source),
            id=None if text in NO_ID else text,
            **dict(zip(_TEXTS, cells, strict=True)),
        )


def _print_json(parts: Iterable[DecodedPart]) -> None:
    """Prints one object, request by request, because there may be more than memory holds."""
    malformed: Counter[str] = Counter()
    repeats, before = 0, '{"requests": ['
    for decoded, counts in parts:
        for request in chain.from_iterable(map(_requests, decoded.requests)):
            click.echo(f"{before}\n{json.dumps(msgspec.to_builtins(request))}", nl=False)
            before = ","
        malformed.update({count.reason: count.number for count in counts})
        repeats += decoded.repeats
    opening = before if before != "," else "\n"
    click.echo(f'{opening}], "malformed": {json.dumps(malformed)}, "repeats": {repeats}}}')


def _show(parts: Iterable[DecodedPart], console: Console) -> None:
    rows: list[DecodedRequest] = []
    sources: Counter[str] = Counter()
    malformed: MalformedCounts = ()
    repeats = 0
    for decoded, counts in parts:
        for requests in decoded.requests:
            rows += islice(_requests(requests), MOST_ROWS - len(rows))
            sources[requests.source] += len(requests)
        malformed = added((*malformed, *counts))
        repeats += decoded.repeats
    columns = ("time (UTC)", "client", "method", "host", "path", "status", "source", "id")
    console.print(table(columns, map(_cells, rows), keep=("time (UTC)", "client")))
    if (more := sources.total() - len(rows)) > 0:
        console.print(f"and {plural(more, 'more request')}; --json prints all")
    by_source = ", ".join(f"{number:,} {source}" for source, number in sources.items())
    console.print(
        f"\n{plural(sources.total(), 'request')}{by_source and f' ({by_source})'}, {plural(repeats, 'repeat')}"
    )
    for count in malformed:
        console.print(explained(count), soft_wrap=True)


def _cells(request: DecodedRequest) -> tuple[str, ...]:
    texts = (getattr(request, name) for name in (*_TEXTS, "source", "id"))
    return f"{utc(request.time_ms)}.{request.time_ms % 1000:03d}", request.client, *(text or "-" for text in texts)
