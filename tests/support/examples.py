"""How many examples a property is tried on: as many as its test says, or a tenth of them for `make test-unit`."""

from typing import Any

from hypothesis import HealthCheck, settings

QUICK = "quick"
ALL = 100
"""Where a test says nothing: hypothesis's own number."""

settings.register_profile("any machine", max_examples=ALL, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(QUICK, parent=settings.get_profile("any machine"), max_examples=ALL // 10)
settings.load_profile("any machine")  # how fast an example runs says nothing of the code


def examples(count: int, **others: Any) -> settings:
    """Settings of a property that is tried on `count` examples; on a tenth with `--hypothesis-profile quick`."""
    quick = settings.get_current_profile_name() == QUICK
    return settings(max_examples=max(2, count // 10) if quick else count, **others)
