"""Whether an honest sender was kept waiting by attackers is told from other waits."""

import pytest

from tests.torture.attackers import MOST_SECONDS, Wait, too_long

pytestmark = pytest.mark.torture


def test_a_long_wait_that_began_during_an_attack_is_found() -> None:
    attacks = [(100.0, 110.0), (200.0, 210.0)]
    waits = [
        Wait("patient", 105.0, MOST_SECONDS - 1),
        Wait("C-ECHO", 205.0, MOST_SECONDS + 2),
        Wait("before", 99.0, 60.0),
        Wait("between", 150.0, 60.0),
    ]
    assert too_long(waits, attacks) == ["C-ECHO waited 12 s during an attack"]
