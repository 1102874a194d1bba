"""A wider network starts with the masks of the narrower one."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from tests.support.examples import examples
from voxtell.model.checkpoint import load_network
from voxtell.model.network import VoxTell
from voxtell.model.plans import Plans
from voxtell.training.dataset import DatasetError
from voxtell.training.export import average, widened
from voxtell.training.widen import widen


def with_features(plans: Plans, features: tuple[int, ...]) -> Plans:
    return replace(plans, encoder=replace(plans.encoder, features=features))


def logits(network: VoxTell, image: torch.Tensor, text: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        return network.train()(image, text)  # type: ignore[no-any-return]


@pytest.mark.long
@examples(15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(more=st.tuples(*[st.integers(0, 5)] * 4), fusion_stages=st.integers(1, 3), seed=st.integers(0, 99))
def test_every_scale_keeps_its_logits(tiny_plans: Plans, more: tuple[int, ...], fusion_stages: int, seed: int) -> None:
    torch.manual_seed(seed)
    plans = replace(tiny_plans, prompt=replace(tiny_plans.prompt, fusion_stages=fusion_stages))
    narrow = VoxTell(plans)
    # No two neighbours may meet: widths 4, 6, 8, 12 with up to 5 more each, kept in order.
    features = tuple(was + sum(more[: i + 1]) for i, was in enumerate(plans.encoder.features))
    wide = VoxTell(with_features(plans, features))
    wide.load_state_dict(widen(narrow, wide.plans))
    image, text = torch.randn(1, 1, *plans.patch_size), torch.randn(1, 2, plans.prompt.text_dim)
    for ours, theirs in zip(logits(wide, image, text), logits(narrow, image, text), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_new_channels_learn(tiny_plans: Plans) -> None:
    """They are read with weight zero, so the gradient must come to them through being read."""
    wide = VoxTell(with_features(tiny_plans, (6, 7, 8, 12)))
    wide.load_state_dict(widen(VoxTell(tiny_plans), wide.plans))
    wide(torch.randn(1, 1, *tiny_plans.patch_size), torch.randn(1, 1, tiny_plans.prompt.text_dim))[0].sum().backward()
    read = wide.encoder.stages[0].blocks[0].conv1.conv.weight.grad[:4, 4:]
    assert (read.flatten(2).abs().sum(2) > 0).all()


@pytest.mark.parametrize(
    ("features", "words"),
    [
        ((3, 6, 8, 12), "cannot shrink"),
        ((6, 6, 8, 12), "no two stages may become equally wide"),
    ],
)
def test_what_cannot_be_carried_over_is_named(tiny_plans: Plans, features: tuple[int, ...], words: str) -> None:
    with pytest.raises(DatasetError, match=words):
        widen(VoxTell(tiny_plans), with_features(tiny_plans, features))
    with pytest.raises(DatasetError, match="more than the encoder's features"):
        widen(VoxTell(tiny_plans), replace(tiny_plans, patch_size=(32, 16, 24)))


def test_a_model_directory_becomes_a_wider_one(published: Path, tiny_plans: Plans, tmp_path: Path) -> None:
    plans = with_features(tiny_plans, (5, 9, 10, 12))
    widened(published, plans, tmp_path / "wide")
    assert load_network(tmp_path / "wide").plans == plans


def test_models_are_averaged_whether_or_not_they_hold_what_nothing_reads(
    published: Path, tiny_plans: Plans, tmp_path: Path
) -> None:
    """Published weights do, exported ones do not."""
    widened(published, tiny_plans, tmp_path / "exported")
    average([published, tmp_path / "exported"], tmp_path / "mean")
    whole, mean = (load_network(model).state_dict() for model in (published, tmp_path / "mean"))
    for name, weight in mean.items():
        torch.testing.assert_close(weight, whole[name], rtol=1e-3, atol=1e-3)
