"""The torture names functions of the product as text: each is there."""

import functools
import importlib

import pytest

from tests.torture.kills import STEPS


@pytest.mark.parametrize("target", sorted({step.target for step in STEPS}))
def test_a_step_names_a_function_of_the_product(target: str) -> None:
    module, _, path = target.partition(":")
    assert callable(functools.reduce(getattr, path.split("."), importlib.import_module(module)))
