"""Decodes chunks of log files into requests, detecting the format of each chunk from its lines.

All lines of a chunk are decoded in the format of its first recognisable line. If some lines do not fit, the format of
each line is detected separately, so a file that mixes formats costs time and nothing else.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Protocol

from chalicelib.core.logs.requests import Decoded, Malformed, Reason, Requests
from sluice.logs.files import W3C_HEADER, Chunk
from sluice.logs.formats import FORMATS, detect
from sluice.logs.log_format import Decode, DecodeOptions, LogFormat

SNIFFED_LINES = 200
"""Lines tried to detect the format of a chunk."""

LATEST_MS = 10**14
"""Time in milliseconds, in the year 5138, from which lines are malformed.

AWS WAF's times are JSON numbers of any size, and no client writes them.
"""

MOST_DECODERS = 100
"""Most decoders kept, for different formats and ``#Fields`` lines."""

STRUCTURAL = frozenset(
    (Reason.FIELDS, Reason.JSON, Reason.TIMESTAMP, Reason.ENCODING, Reason.TOO_LARGE, Reason.ENVELOPE)
)
"""Reasons for which a line may be of another format."""


class ChunkDecoder(Protocol):
    def decode(self, chunk: Chunk) -> Decoded: ...


class LogDecoder:
    """A decoder for chunks of all formats, in any mixture."""

    def __init__(self, options: DecodeOptions) -> None:
        """Raises ValueError for real-time fields that cannot be decoded."""

        @lru_cache(MOST_DECODERS)
        def decoder(log_format: LogFormat, header: bytes) -> Decode:
            return log_format.decoder(options, header)

        self._decoder_under = decoder
        for log_format in FORMATS:
            decoder(log_format, b"")

    def decode(self, chunk: Chunk) -> Decoded:
        decoded = self._decode_chunk(chunk)
        if all(max(requests.times) < LATEST_MS for requests in decoded.requests):
            return decoded
        malformed = list(decoded.malformed)
        plausible = []
        for requests in decoded.requests:
            keep = [time < LATEST_MS for time in requests.times]
            malformed += [Malformed(Reason.TIMESTAMP, b"a time in the year 5138 or later")] * keep.count(False)
            plausible.append(requests.select(keep))
        return Decoded(tuple(filter(len, plausible)), tuple(malformed))

    def _decode_chunk(self, chunk: Chunk) -> Decoded:
        header, text = _after_comments(chunk)
        log_format = detect(text[: text.find(b"\n")], header)
        if log_format is not None and log_format.cuts_lines:
            requests, wrong = self._decoder(log_format, header)([text])
            if not _may_be_mixed(wrong):
                return Decoded((requests,) if requests else (), tuple(wrong))
        if b"\r" in text:
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        batches: list[Requests] = []
        malformed: list[Malformed] = []
        for section_header, lines in _sections(text, header):
            decoded, wrong = self._decode_section(lines, section_header)
            batches += decoded
            malformed += wrong
        return Decoded(tuple(batches), tuple(malformed))

    def _decode_section(self, lines: list[bytes], header: bytes) -> tuple[list[Requests], list[Malformed]]:
        first = next((f for line in lines[:SNIFFED_LINES] if (f := detect(line, header)) is not None), None)
        requests, wrong = self._decode_lines(first, lines, header)
        if not _may_be_mixed(wrong):
            return [requests] if requests else [], wrong
        by_format: dict[LogFormat | None, list[bytes]] = {}
        for line in lines:
            by_format.setdefault(detect(line, header), []).append(line)
        if by_format.keys() == {first}:
            return [requests] if requests else [], wrong
        parts = [self._decode_lines(log_format, part, header) for log_format, part in by_format.items()]
        return [requests for requests, _ in parts if requests], [piece for _, wrong in parts for piece in wrong]

    def _decode_lines(
        self, log_format: LogFormat | None, lines: list[bytes], header: bytes
    ) -> tuple[Requests | None, list[Malformed]]:
        if log_format is None:
            return None, [Malformed.of(Reason.FIELDS, line) for line in lines]
        return self._decoder(log_format, header)(lines)

    def _decoder(self, log_format: LogFormat, header: bytes) -> Decode:
        return self._decoder_under(log_format, header if log_format.has_header else b"")


def _may_be_mixed(malformed: Sequence[Malformed]) -> bool:
    """Tests whether a malformed line may be of another format."""
    return any(piece.reason in STRUCTURAL for piece in malformed)


def _after_comments(chunk: Chunk) -> tuple[bytes, bytes]:
    """Returns the text after the comments at the start of a chunk, and the ``#Fields`` line in force there."""
    header, text = chunk.header, chunk.text
    while text.startswith(b"#") and b"\n" in text:
        line, _, rest = text.partition(b"\n")
        if b"\r" in line:
            break
        header, text = line if line.startswith(W3C_HEADER) else header, rest
    return header, text


def _sections(text: bytes, header: bytes) -> Iterable[tuple[bytes, list[bytes]]]:
    """Yields each ``#Fields`` line in force with the lines under it; comments and empty lines are skipped."""
    lines = list(filter(None, text.split(b"\n")))
    if b"#" not in text or not (text.startswith(b"#") or b"\n#" in text):
        if lines:
            yield header, lines
        return
    section: list[bytes] = []
    for line in lines:
        if not line.startswith(b"#"):
            section.append(line)
        elif line.startswith(W3C_HEADER):
            if section:
                yield header, section
            header, section = line, []
    if section:
        yield header, section
