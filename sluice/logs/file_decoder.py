"""Decodes chunks of log files into requests, with the decoders that run in Lambda."""

from typing import Protocol

from chalicelib.core.logs.log_format import DecodeOptions
from chalicelib.core.logs.requests import Decoded, Malformed, Reason
from chalicelib.core.logs.text_decoder import TextDecoder
from sluice.logs.both_versions import BothVersions
from sluice.logs.files import Chunk

LATEST_MS = 10**14
"""Lines with this time (in milliseconds, in the year 5138) or a later one are malformed.

AWS WAF's times are JSON numbers, which have no bound. No client can choose them.
"""


class ChunkDecoder(Protocol):
    def decode(self, chunk: Chunk) -> Decoded: ...


class LogDecoder:
    """A decoder for chunks of all formats, in any mixture."""

    def __init__(self, options: DecodeOptions) -> None:
        """Raises ValueError for real-time fields that cannot be decoded."""
        self._decoder = TextDecoder(options)
        self._both_versions = BothVersions(lambda chunk: self._decoder.decode(chunk.text, chunk.header).requests)

    def decode(self, chunk: Chunk) -> Decoded:
        decoded = self._decoder.decode(chunk.text, chunk.header)
        malformed = [*chunk.malformed, *decoded.malformed]
        plausible = []
        for requests in decoded.requests:
            if max(requests.times) < LATEST_MS:
                plausible.append(requests)
                continue
            keep = [time < LATEST_MS for time in requests.times]
            implausible = Malformed(Reason.TIMESTAMP, b"a time in the year 5138 or later", requests.source)
            malformed += [implausible] * keep.count(False)
            plausible.append(requests.select(keep))
        distinct = self._both_versions.distinct(chunk, plausible)
        repeats = sum(map(len, plausible)) - sum(map(len, distinct))
        return Decoded(tuple(filter(len, distinct)), tuple(malformed), repeats)
