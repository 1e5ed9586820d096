"""Requests as columns, decoded from log lines: one module per log format."""
