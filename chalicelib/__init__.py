"""Sluice's runtime: the code that AWS Lambda loads.

Imports point one way: ``core`` (no I/O, no clock, no environment) is used by the use cases, such as ``ingest``,
``evaluate``, ``enforce``, ``publish`` and ``sweep``, which reach the outside world only through ``ports``; ``edges``
holds the adapters; only ``bootstrap`` connects them.
"""
