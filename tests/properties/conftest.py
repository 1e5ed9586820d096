"""Hypothesis for all properties: no deadline, as CI shares its cores; the reproducing blob is printed."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "sluice", deadline=None, print_blob=True, max_examples=200, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("sluice")
