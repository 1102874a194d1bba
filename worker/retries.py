"""How long to wait before another attempt."""

import random

from worker.settings import Settings


def backoff(settings: Settings, attempts: int) -> float:
    """Seconds before the next attempt after `attempts` of them: doubles each time up to a limit, half of it at random.

    The random half keeps a hundred jobs that failed together from coming back together.
    """
    longest: float = min(settings.backoff_seconds * 2 ** max(0, attempts - 1), settings.max_backoff_seconds)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
