"""Chalice's entry point: Lambda invokes these functions as ``app.ingest`` and so on."""

from chalicelib.handlers import app, enforce, ingest, publish, sweep

__all__ = ["app", "enforce", "ingest", "publish", "sweep"]
