"""Chalice's entry point: Lambda invokes these functions as ``app.ingest`` and so on."""

from chalicelib.handlers import app, authorize, enforce, evaluate, import_objects, ingest, publish, sweep

__all__ = ["app", "authorize", "enforce", "evaluate", "import_objects", "ingest", "publish", "sweep"]
