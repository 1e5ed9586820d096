"""Adapters: the ports on AWS, Lambda events, logs and metrics."""
