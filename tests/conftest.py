"""Settings of all tests."""

from hypothesis import settings

# how long an example takes depends on what else the computer does, and is no test
settings.register_profile("patient", parent=settings(), deadline=None)
settings.load_profile("patient")
