"""Settings for all unit tests: a loaded machine must not fail those that are property-based, nor
make them slow."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# State files that others can write are refused; a developer's own umask must not matter.
os.umask(0o022)
settings.register_profile(
    "unit", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60
)
settings.load_profile("unit")
