"""Stores for the hashes of tokens: an SSM parameter, or a file on one machine."""

import os
from collections.abc import Sequence
from functools import partialmethod
from pathlib import Path
from typing import TYPE_CHECKING

from aws_lambda_powertools.utilities.parameters import SSMProvider
from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError, SetParameterError

from chalicelib.core.tokens import Token, TokensError, dump_tokens, load_tokens
from chalicelib.ports import Unavailable

if TYPE_CHECKING:
    from mypy_boto3_ssm import SSMClient

CACHED_S = 30
"""Seconds for which tokens are cached: a revoked one may be accepted this much longer, in addition to the time for
which API Gateway caches the authorizer's answer (``api.mount.AUTHORIZED_S``)."""

KEY = "alias/aws/ssm"
"""The account's default key for parameters."""

LARGEST_PARAMETER = 4096
"""Most bytes of a standard parameter, enough for about 20 tokens."""


class ParameterTokens:
    """Tokens in a SecureString parameter of AWS Systems Manager."""

    def __init__(self, client: "SSMClient", name: str) -> None:
        self._client = client
        self._provider = SSMProvider(boto3_client=client)
        self._name = name

    def read(self, *, cached: bool = True) -> tuple[Token, ...]:
        """Returns the tokens, up to ``CACHED_S`` old if ``cached``; none if no parameter exists. Raises Unavailable."""
        try:
            text = self._provider.get(self._name, decrypt=True, max_age=CACHED_S, force_fetch=not cached)
        except GetParameterError as exc:
            if isinstance(exc.__context__, self._client.exceptions.ParameterNotFound):
                return ()
            raise Unavailable(f"read {self._name}: {exc}") from exc
        return load_tokens(str(text))

    fresh = partialmethod(read, cached=False)
    """Returns the tokens without the cache, for an edit."""

    def write(self, tokens: Sequence[Token]) -> None:
        """Replaces the tokens. Raises TokensError if they do not fit, Unavailable if they cannot be written."""
        text = dump_tokens(tokens)
        if len(text) > LARGEST_PARAMETER:
            raise TokensError(f"{len(tokens)} tokens do not fit into {self._name}; revoke some")
        try:
            self._provider.set(self._name, text, parameter_type="SecureString", kms_key_id=KEY, overwrite=True)
        except SetParameterError as exc:
            raise Unavailable(f"write {self._name}: {exc}") from exc


class FileTokens:
    """Tokens in a file that only its owner can read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> tuple[Token, ...]:
        """Returns the tokens; none if there is no file. Raises TokensError, OSError."""
        try:
            return load_tokens(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return ()

    fresh = read

    def write(self, tokens: Sequence[Token]) -> None:
        beside = self._path.with_name(f".{self._path.name}.new")
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write(dump_tokens(tokens))
        beside.replace(self._path)
