"""Settings of all tests."""

from hypothesis import HealthCheck, settings

# how long an example takes depends on what else the computer does, and is no test
settings.register_profile(
    "patient", parent=settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("patient")
