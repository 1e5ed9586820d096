"""Access log records of API Gateway, with chosen values that are put in without escaping them, as AWS does."""

from chalicelib.core.logs.api_gateway import FORMAT

VALUES = {
    "requestTimeEpoch": "1760000000123",
    "identity.sourceIp": "203.0.113.9",
    "extendedRequestId": "JKJaXmPLvHcESHA=",
    "httpMethod": "GET",
    "path": "/login",
    "status": "200",
    "domainName": "api.example.com",
    "identity.userAgent": "curl/8.5.0",
    "wafResponseCode": "WAF_ALLOW",
}
NAMES = {"ip": "identity.sourceIp", "host": "domainName", "userAgent": "identity.userAgent"}


def api(**changes: str) -> bytes:
    """Returns a record; ``changes`` are named like the keys of the record."""
    values = {**VALUES, **{NAMES.get(key, key): value for key, value in changes.items()}}
    record = FORMAT
    for name, value in values.items():
        record = record.replace(f'"$context.{name}"', f'"{value}"')
    return record.encode()
