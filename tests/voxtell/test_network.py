"""The network: names and shapes of the published weights, and less work for the same numbers."""

import copy
import dataclasses
import gzip
from pathlib import Path

import pytest
import torch
from torch import Tensor

from voxtell.model.network import VoxTell
from voxtell.model.plans import Plans
from voxtell.model.prompt_decoder import sine_positions

PUBLISHED_KEYS = Path(__file__).parent / "data" / "published_state_dict.tsv.gz"


def step_by_step(network: VoxTell, image: Tensor, text: Tensor) -> list[Tensor]:
    """The definition: every prompt decoded alone, every layer run as it is named; logits finest first."""
    decoder = network.decoder
    depth = len(decoder.stages)
    skips = network.encoder(image)
    guidance = network.guidance(skips, text)
    prompts = []
    for p in range(text.shape[1]):
        x, scales = skips[-1], []
        for i in range(depth):
            x = decoder.stages[i](torch.cat([decoder.transpconvs[i](x), skips[-2 - i]], dim=1))
            scale = depth - 1 - i
            if scale == 0:
                scales.append((x * guidance[0][:, p, :, None, None, None]).sum(1, keepdim=True))
            elif i >= decoder.first_guided:
                matrix = guidance[scale][:, p].view(x.shape[0], decoder.guidance_channels, x.shape[1])
                x = torch.cat([x, torch.einsum("bgc,bcsar->bgsar", matrix, x)], dim=1)
                scales.append(decoder.seg_layers[i](x))
        prompts.append(scales[::-1])
    return [torch.cat(scale, dim=1) for scale in zip(*prompts, strict=True)]


def with_fusion(plans: Plans, stages: int) -> Plans:
    return dataclasses.replace(plans, prompt=dataclasses.replace(plans.prompt, fusion_stages=stages))


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_shared_and_folded_work_gives_the_logits_of_the_definition(tiny_plans: Plans, stages: int) -> None:
    network = VoxTell(with_fusion(tiny_plans, stages))
    image, text = torch.randn(2, 1, *tiny_plans.patch_size), torch.randn(2, 3, 10)
    logits, expected = network(image, text), step_by_step(network, image, text)
    assert [tuple(scale.shape[2:]) for scale in logits] == [(16, 16, 24), (16, 8, 12), (8, 4, 6)][:stages]
    for ours, theirs in zip(logits, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * float(theirs.detach().abs().max()))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_gradients_are_those_of_the_definition(
    tiny_network: VoxTell, tiny_plans: Plans, layout: torch.memory_format
) -> None:
    """In the layout that training uses too, where torch's instance_norm gave wrong ones."""
    network = tiny_network.double()
    laid_out = copy.deepcopy(network).to(memory_format=layout)
    image = torch.randn(1, 1, *tiny_plans.patch_size, dtype=torch.float64)
    text = torch.randn(1, 2, 10, dtype=torch.float64)

    def gradients(network: VoxTell, logits: list[Tensor]) -> tuple[Tensor, ...]:
        trained = [p for p in network.parameters() if p.requires_grad]
        return torch.autograd.grad(sum((scale.sin().sum() for scale in logits), torch.zeros(())), trained)

    for ours, theirs in zip(
        gradients(laid_out, laid_out(image, text)),
        gradients(network, step_by_step(network, image, text)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-7)


def test_folded_kernels_keep_the_layout_of_the_features(tiny_network: VoxTell) -> None:
    """With kernels of the other layout torch copies all features: on large windows half as much memory again."""
    for stage in tiny_network.decoder.kernels():
        assert stage.up.is_contiguous(memory_format=torch.channels_last_3d)


def test_evaluation_returns_the_finest_scale_alone(tiny_network: VoxTell, tiny_plans: Plans) -> None:
    image, text = torch.randn(1, 1, *tiny_plans.patch_size), torch.randn(1, 2, 10)
    with torch.no_grad():
        trained = tiny_network(image, text)[0]
        (evaluated,) = tiny_network.eval()(image, text)
    torch.testing.assert_close(evaluated, trained)


def test_prompts_do_not_see_each_other(tiny_network: VoxTell, tiny_plans: Plans) -> None:
    tiny_network.eval()
    image, text = torch.randn(1, 1, *tiny_plans.patch_size), torch.randn(1, 3, 10)
    with torch.no_grad():
        together = tiny_network(image, text)[0]
        alone = torch.cat([tiny_network(image, text[:, p : p + 1])[0] for p in range(3)], dim=1)
    torch.testing.assert_close(together, alone)


def test_state_dict_has_exactly_the_published_names_and_shapes() -> None:
    """Names and shapes of `fold_0/checkpoint_final.pth`, its two kinds of aliases left out."""
    rows = gzip.decompress(PUBLISHED_KEYS.read_bytes()).decode().splitlines()[1:]
    published = dict(row.split("\t") for row in rows)
    kept = {k: v for k, v in published.items() if not k.startswith("decoder.encoder.") and ".all_modules." not in k}
    with torch.device("meta"):
        network = VoxTell(Plans())
    assert {k: "x".join(map(str, v.shape)) for k, v in network.state_dict().items()} == kept
    assert len(kept) == 403


def test_positions_tell_every_voxel_of_the_grid_apart() -> None:
    positions = sine_positions((3, 4, 5), 24).squeeze(1)
    distances = torch.cdist(positions, positions) + torch.eye(60)
    assert positions.shape == (60, 24)
    assert float(distances.min()) > 0.1
