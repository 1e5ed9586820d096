"""Adapters: AWS behind the ports, Lambda events, settings, logs and metrics."""
