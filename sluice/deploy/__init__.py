"""Deploying Sluice: what ``chalice deploy`` cannot create, planned, applied, examined and taken away again."""
