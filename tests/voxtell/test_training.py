"""Training: what is learnt from, what must not be, and that a killed run goes on as if nothing had happened."""

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from safetensors.torch import load_file
from torch.nn import functional
from typer.testing import CliRunner

import voxtell
from voxtell.card import Card
from voxtell.model.plans import EncoderPlans, InputPlans, Plans, PromptPlans
from voxtell.phantom import head_and_neck
from voxtell.text.lexical import NgramEncoder
from voxtell.training import plot, setup
from voxtell.training.__main__ import app
from voxtell.training.augment import NONE, Augmentation, cut_field_of_view, random_bend, random_matrix, sample_view
from voxtell.training.cache import WHOLE, CachedCase, add_case, read_cache, write_index
from voxtell.training.dataset import DatasetError, openkbp, read_dataset
from voxtell.training.export import export
from voxtell.training.loop import Schedule, Trainer
from voxtell.training.losses import (
    DICE_SMOOTHING,
    ENTROPY_FLOOR,
    ENTROPY_WEIGHT,
    deep_supervision,
    dice_and_cross_entropy,
)
from voxtell.training.measure import Disagreement
from voxtell.training.sampling import PatchSampler, SamplingPlan
from voxtell.training.setup import add_phantoms
from voxtell.training.vocabulary import builtin, held_out

SPACING = (10.0, 8.0, 8.0)
ENCODER = NgramEncoder(32)


@pytest.fixture
def plans() -> Plans:
    """A network of three stages that trains in milliseconds, for phantoms of 10 x 8 x 8 mm."""
    return Plans(
        patch_size=(16, 16, 16),
        encoder=EncoderPlans(
            features=(8, 16, 16),
            strides=((1, 1, 1), (2, 2, 2), (2, 2, 2)),
            kernel_sizes=((3, 3, 3),) * 3,
            blocks=(1, 1, 1),
        ),
        prompt=PromptPlans(
            text_dim=32, query_dim=24, ffn_dim=24, heads=2, layers=1, guidance_channels=4, fusion_stages=2
        ),
        input=InputPlans(normalization="ct", lower=-400, upper=700, mean=-400, std=200, foreground_above=-400),
        card=Card(name="tiny", version="1", text_encoder="ngrams"),
    )


@pytest.fixture
def cases(tmp_path: Path) -> list[CachedCase]:
    """One phantom in a cache, with mandible and both parotids contoured and nothing else."""
    phantom = head_and_neck(0, SPACING)
    contoured = ("mandible", "right parotid", "left parotid")
    folder = tmp_path / "cache"
    folder.mkdir()
    case = add_case(folder, "one", "train", phantom.image, {n: phantom.labels[n] for n in contoured}, SPACING)
    write_index(folder, [case])
    return read_cache(folder)


def sampler_of(
    cases: list[CachedCase], plans: Plans, augmentation: Augmentation = NONE, **options: Any
) -> PatchSampler:
    vocabulary = builtin().restricted_to(dict.fromkeys(builtin().structures, ()))
    plan = SamplingPlan(plans.patch_size, **options)
    return PatchSampler(cases, vocabulary, ENCODER, plan, augmentation, plans.input)


# What is asked


def test_only_contoured_structures_and_absent_ones_are_asked_for(cases: list[CachedCase], plans: Plans) -> None:
    sampler = sampler_of(cases, plans, prompts=5, negative_share=0.3)
    samples = [next(sampler) for _ in range(20)]
    asked = {structure for sample in samples for structure in sample.structures}
    assert asked == {"mandible", "right parotid", "left parotid", None}
    negatives = {p for s in samples for p, t in zip(s.prompts, s.target[0], strict=True) if p in builtin().negatives}
    assert negatives
    assert all(s.image.shape == (1, 1, 16, 16, 16) and s.target.shape[2:] == (16, 16, 16) for s in samples)


def test_a_union_is_the_union_of_its_parts(cases: list[CachedCase], plans: Plans) -> None:
    sampler = sampler_of(cases, plans, prompts=1, negative_share=0, union_share=1.0)
    phantom_parotids = sum(
        mask.sum() for name, mask in zip(cases[0].structures, cases[0].labels, strict=True) if "parotid" in name
    )
    found = max(float(next(sampler).target.sum()) for _ in range(10))
    assert 0 < found <= phantom_parotids


def test_no_held_out_phrasing_is_trained_on() -> None:
    trained = {p.casefold() for prompts in builtin().structures.values() for p in prompts}
    trained |= {p.casefold() for union in builtin().unions.values() for p in union.prompts}
    trained |= {p.casefold() for p in builtin().negatives}
    structures, negatives = held_out()
    unseen = [p for words in structures.values() for p in (*words.phrasings, *words.typos, *words.descriptions)]
    canonical = {name.casefold() for name in builtin().structures}
    assert not {p.casefold() for p in (*unseen, *negatives)} & trained - canonical
    for name, words in structures.items():
        assert name in builtin().structures
        assert len(set(words.phrasings + words.typos)) >= 10
        assert len(words.typos) >= 5


# Augmentation


@given(seed=st.integers(0, 10**6))
def test_augmentation_never_mirrors(seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = random_matrix(Augmentation(as_scanned_probability=0), (2.5, 4.0, 4.0), rng)
    assert np.linalg.det(matrix) > 0
    assert (np.diag(matrix) > 0.5).all()


def test_right_stays_right_in_an_augmented_patch(cases: list[CachedCase], plans: Plans) -> None:
    case = cases[0]
    rng = np.random.default_rng(0)
    middle = np.mean([np.add(*case.boxes[f"{side} parotid"]) / 2 for side in ("right", "left")], axis=0)
    for _ in range(10):
        matrix = random_matrix(Augmentation(as_scanned_probability=0), SPACING, rng)
        bend = random_bend(Augmentation(), (16, 24, 32), rng)
        _, masks = sample_view(case.image, case.labels, middle, matrix, (16, 24, 32), bend)
        at = {n: np.argwhere(m.numpy() > 0.5).mean(0) for n, m in zip(case.structures, masks, strict=True)}
        assert at["right parotid"][2] > 16 > at["left parotid"][2]


def test_a_bend_moves_image_and_masks_alike() -> None:
    """The same displacement at every point is a shift; one drawn at random moves a body and its mask together."""
    rng = np.random.default_rng(0)
    image = rng.integers(-1000, 1000, (20, 22, 24)).astype(np.int16)
    centre, moved = np.array([9.5, 10.5, 11.5]), np.array([2, -1, 3])
    shift = np.broadcast_to(moved.reshape(3, 1, 1, 1), (3, 5, 5, 5)).astype(float)
    view, masks = sample_view(image, image[None] > 0, centre, np.eye(3), (8, 8, 8), shift)
    there, others = sample_view(image, image[None] > 0, centre + moved, np.eye(3), (8, 8, 8))
    assert np.allclose(view, there, atol=0.5)
    assert torch.equal(masks, others)

    body = np.zeros((40, 40, 40), np.int16)
    body[12:28, 10:30, 8:32] = 100
    bend = random_bend(Augmentation(bend_probability=1.0), (32, 32, 32), rng)
    view, masks = sample_view(body, body[None] > 0, np.full(3, 19.5), np.eye(3), (32, 32, 32), bend)
    straight, _ = sample_view(body, body[None] > 0, np.full(3, 19.5), np.eye(3), (32, 32, 32))
    assert float((view - straight).abs().max()) > 50
    assert torch.equal(masks[0][(view - 50).abs() > 49.9] > 0, view[(view - 50).abs() > 49.9] > 50)


@settings(deadline=None)
@given(offset=st.tuples(*[st.integers(-4, 4)] * 3), between=st.tuples(*[st.floats(-0.49, 0.49)] * 3))
def test_a_view_without_augmentation_is_the_volume_itself(
    offset: tuple[int, int, int], between: tuple[float, float, float]
) -> None:
    """Whole voxels, wherever between two of them the centre was drawn."""
    rng = np.random.default_rng(0)
    image = rng.integers(-1000, 1000, (20, 22, 24)).astype(np.int16)
    labels = rng.random((2, 20, 22, 24)) > 0.5
    centre = np.array([9.5, 10.5, 11.5]) + offset
    view, masks = sample_view(image, labels, centre + between, np.eye(3), (8, 8, 8))
    s, a, r = (slice(int(c - 3.5), int(c + 4.5)) for c in centre)
    assert np.allclose(view.numpy(), image[s, a, r], atol=0.5)
    assert np.allclose(masks.numpy(), labels[:, s, a, r], atol=1e-3)


def test_shares_stay_shares_and_are_interpolated() -> None:
    image = np.zeros((12, 12, 12), np.int16)
    shares = np.zeros((1, 12, 12, 12), np.uint8)
    shares[0, :, :, 6:] = WHOLE
    shares[0, :, :, 5] = 51
    centre = np.full(3, 5.5)
    _, masks = sample_view(image, shares, centre, np.eye(3), (8, 8, 8))
    assert torch.allclose(masks[0, 0, 0], torch.tensor([0, 0, 0, 0.2, 1, 1, 1, 1]), atol=1e-5)
    _, masks = sample_view(image, shares, centre, np.diag([1, 1, 0.5]), (8, 8, 8))
    assert torch.allclose(masks[0, 0, 0], torch.tensor([0, 0.05, 0.15, 0.4, 0.8, 1, 1, 1]), atol=1e-5)


@pytest.mark.long
def test_phantoms_that_are_drawn_finer_keep_what_lies_between_voxels(tmp_path: Path) -> None:
    add_phantoms(tmp_path, 3)
    kinds = [case.labels.dtype for case in read_cache(tmp_path)]
    assert sorted(map(str, kinds)) == ["bool", "uint8", "uint8"]
    for case in read_cache(tmp_path):
        assert set(case.boxes) == set(case.structures)
        whole = case.labels if case.labels.dtype == bool else case.labels > WHOLE // 2
        for structure, mask in zip(case.structures, whole, strict=True):
            assert np.array_equal(case.boxes[structure][0], np.argwhere(mask).min(0))
        if case.labels.dtype == np.uint8:
            assert len(np.unique(case.labels)) > 100


def test_a_cut_field_of_view_is_air_without_contours() -> None:
    always = Augmentation(cut_probability=1.0)
    view, masks = cut_field_of_view(torch.zeros(9, 9, 9), torch.ones(1, 9, 9, 9), always, np.random.default_rng(1))
    assert bool((view == -1000).any())
    assert torch.equal(masks[0] == 0, view == -1000)


# Loss


def test_the_loss_of_whole_voxels_is_soft_dice() -> None:
    logits, known = torch.randn(1, 1, 6, 6, 6), torch.ones(1, 1, dtype=torch.bool)
    target = (torch.rand(1, 1, 6, 6, 6) > 0.6).float()
    chance = logits.sigmoid()
    dice = (2 * (chance * target).sum() + DICE_SMOOTHING) / (chance.sum() + target.sum() + DICE_SMOOTHING)
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")
    entropy = ENTROPY_WEIGHT * entropy / (target.sum() + ENTROPY_FLOOR * target.numel())
    assert torch.allclose(dice_and_cross_entropy(logits, target, known), 1 - dice + entropy, atol=1e-5)


@pytest.mark.parametrize("share", [0.1, 0.35, 0.6, 0.9])
def test_a_voxel_that_is_partly_inside_is_best_answered_by_its_share(share: float) -> None:
    """Beside a structure of whole voxels; soft Dice would have wanted 1 of all of them but the first."""
    target = torch.zeros(1, 1, 1, 8, 8)
    target[..., :5] = 1
    target[..., 5] = share
    answers = torch.linspace(0.02, 0.98, 97)
    losses = []
    for answer in answers:
        chance = target.clone().clamp(1e-4, 1 - 1e-4)
        chance[..., 5] = answer
        losses.append(dice_and_cross_entropy(torch.logit(chance), target, torch.ones(1, 1, dtype=torch.bool)))
    assert float(answers[torch.stack(losses).argmin()]) == pytest.approx(share, abs=0.011)


def test_an_unlabelled_structure_gives_no_gradient() -> None:
    logits = torch.randn(1, 2, 4, 4, 4, requires_grad=True)
    target = (torch.rand(1, 2, 4, 4, 4) > 0.5).float()
    dice_and_cross_entropy(logits, target, torch.tensor([[True, False]])).backward()
    assert logits.grad is not None
    assert float(logits.grad[0, 0].abs().sum()) > 0
    assert float(logits.grad[0, 1].abs().sum()) == 0


def test_a_volume_without_any_label_has_a_loss_of_zero() -> None:
    logits = torch.randn(1, 1, 4, 4, 4, requires_grad=True)
    loss = deep_supervision([logits], torch.ones(1, 1, 4, 4, 4), torch.zeros(1, 1, dtype=torch.bool))
    loss.backward()
    assert float(loss.detach()) == 0


def test_every_scale_is_asked_and_a_better_mask_costs_less() -> None:
    target = torch.zeros(1, 1, 8, 8, 8)
    target[..., 2:6, 2:6, 2:6] = 1
    coarse = torch.nn.functional.adaptive_avg_pool3d(target, 4)
    known = torch.ones(1, 1, dtype=torch.bool)
    good = [20 * target - 10, 20 * coarse - 10]
    losses = [deep_supervision(scales, target, known) for scales in (good, [good[0], -good[1]], [-good[0], good[1]])]
    assert losses[0] < losses[1] < losses[2]
    assert losses[0] < 0.01


def test_a_false_mask_for_an_absent_structure_costs() -> None:
    nothing, known = torch.zeros(1, 1, 8, 8, 8), torch.ones(1, 1, dtype=torch.bool)
    empty, false = torch.full_like(nothing, -10), torch.full_like(nothing, -10)
    false[..., :2, :2, :2] = 5
    assert dice_and_cross_entropy(empty, nothing, known) + 1 < dice_and_cross_entropy(false, nothing, known)


# The loop


def trainer_of(folder: Path, cases: list[CachedCase], plans: Plans, steps: int, rate: float = 1e-3) -> Trainer:
    sampler = sampler_of(cases, plans, Augmentation(), prompts=2)
    return Trainer(folder, plans, sampler, Schedule(steps=steps, learning_rate=rate, warmup_steps=2), autocast=False)


@pytest.mark.long
def test_a_killed_run_ends_where_an_unbroken_one_ends(tmp_path: Path, cases: list[CachedCase], plans: Plans) -> None:
    unbroken = trainer_of(tmp_path / "a", cases, plans, steps=6)
    unbroken.run()
    broken = trainer_of(tmp_path / "b", cases, plans, steps=6)
    for _ in range(3):
        broken.train_step(next(broken.sampler))
    broken.save()
    broken.train_step(next(broken.sampler))  # lost in the kill
    log = tmp_path / "b" / "log.jsonl"
    log.write_text('{"step": 3}\n{"step": 4}\n')
    resumed = trainer_of(tmp_path / "b", cases, plans, steps=6)
    assert resumed.step == 3
    assert log.read_text() == '{"step": 3}\n'
    resumed.run()
    for name, value in unbroken.averaged.items():
        assert torch.equal(value, resumed.averaged[name]), name


def test_the_rate_falls_to_zero_when_the_time_is_up() -> None:
    schedule = Schedule(minutes=10, learning_rate=1.0, warmup_steps=0)
    rates = [schedule.rate(50, seconds) for seconds in (0, 150, 300, 450, 600, 700)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == pytest.approx(1)
    assert rates[-1] == pytest.approx(0)
    with pytest.raises(DatasetError, match="one of them"):
        Schedule()


@pytest.mark.long
def test_it_learns_a_phantom_and_the_exported_model_contours_it(
    tmp_path: Path, cases: list[CachedCase], plans: Plans
) -> None:
    sampler = sampler_of(cases, plans, prompts=2, negative_share=0.1, union_share=0, around_structures=1.0)
    schedule = Schedule(steps=300, learning_rate=1e-2, warmup_steps=5, average=0.9)
    trainer = Trainer(tmp_path / "run", plans, sampler, schedule, autocast=False)
    trainer.run()
    export(tmp_path / "run", tmp_path / "model")
    segmenter = voxtell.load(tmp_path / "model")
    assert segmenter.info.name == "tiny"
    phantom = head_and_neck(0, SPACING)
    mandible, knee = segmenter(phantom.image, ["lower jaw", "left knee"])
    wanted = phantom.labels["mandible"]
    # How far 300 steps come differs with the arithmetic of processors: Dice 0.35 to over 0.5.
    assert 2 * (mandible & wanted).sum() / (mandible.sum() + wanted.sum()) > 0.3
    assert knee.sum() < 0.2 * wanted.sum()
    entries = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert entries[-1]["loss"] < 0.7 * entries[0]["loss"]


# Data


def write_nifti(path: Path, volume: npt.NDArray[Any], axes: str) -> None:
    """Save (S, A, R) voxels of 3 x 4 x 5 mm in another axis order."""
    ras = nibabel.Nifti1Image(volume.transpose(2, 1, 0), np.diag([5.0, 4.0, 3.0, 1.0]))
    orient = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(tuple(axes))
    )
    nibabel.save(ras.as_reoriented(orient), path)


def site_data(folder: Path) -> Path:
    phantom = head_and_neck(2, SPACING)
    write_nifti(folder / "ct.nii.gz", phantom.image.astype(np.int16), "LPI")
    write_nifti(folder / "jaw.nii.gz", phantom.labels["mandible"].astype(np.uint8), "LPI")
    case = {"image": "ct.nii.gz", "contours": {"mandible": {"file": "jaw.nii.gz"}, "liver": None}}
    document = {
        "structures": {"mandible": {}, "liver": {"prompts": ["liver"]}},
        "cases": [{"case": split, "split": split, **case} for split in ("train", "validation")],
    }
    (folder / "data.json").write_text(json.dumps(document))
    return folder / "data.json"


@pytest.mark.long
def test_the_commands_take_a_site_from_its_files_to_a_fine_tuned_model(
    tmp_path: Path, cases: list[CachedCase], plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "bundled_plans", lambda: plans)  # three trainings of the bundled size take minutes
    data = site_data(tmp_path)
    trainer_of(tmp_path / "first", cases, plans, steps=1).run()
    steps = (
        ["export", str(tmp_path / "first"), str(tmp_path / "start")],
        ["complete", str(data), str(tmp_path / "complete"), "--model", str(tmp_path / "start"), "--threads", "1"],
        ["prepare", str(tmp_path / "complete" / "dataset.json"), str(tmp_path / "site")],
        ["train", str(data), str(tmp_path / "site"), str(tmp_path / "run"), "--steps", "20", "--threads", "1",
         "--model", str(tmp_path / "start"), "--prompts", "2"],
        ["export", str(tmp_path / "run"), str(tmp_path / "tuned")],
        ["average", str(tmp_path / "model"), str(tmp_path / "start"), str(tmp_path / "tuned")],
        ["ablate", str(data), str(tmp_path / "site"), str(tmp_path / "ablation"), "--steps", "1", "--threads", "1"],
        ["report", str(data), str(tmp_path / "card.md"), "--model", str(tmp_path / "model"), "--robust", "1",
        "--phantoms", "0",
         "--log", str(tmp_path / "run" / "log.jsonl"), "--threads", "1",
         "--ablation", str(tmp_path / "ablation" / "ablation.json")],
    )  # fmt: skip
    threads = torch.get_num_threads()
    for arguments in steps:
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        assert torch.get_num_threads() == threads
    first, second, mean = (load_file(tmp_path / name / "model.safetensors") for name in ("start", "tuned", "model"))
    for name, value in mean.items():
        torch.testing.assert_close(value.float(), (first[name].float() + second[name].float()) / 2, rtol=0, atol=1e-3)
    assert (tmp_path / "run" / "losses.png").stat().st_size > 1000
    card = (tmp_path / "card.md").read_text()
    assert "| mandible | 1 |" in card
    assert "0 of" in card
    for variant in ("as published", "one fusion stage", "no deep supervision"):
        assert f"| {variant} | " in card
    for figure in ("dice.png", "worst.png"):
        assert (tmp_path / "figures" / figure).is_file()


def test_the_picture_of_a_contour_shows_the_patients_right_on_its_left_and_the_front_above(tmp_path: Path) -> None:
    front_right = np.zeros((60, 60), bool)
    front_right[40:44, 40:44] = True
    elsewhere = np.zeros((60, 60), bool)
    elsewhere[20:24, 20:24] = True
    image = np.full((60, 60), -1000, np.float32)
    shown = Disagreement("one", 0.0, image, found=elsewhere, contour=front_right, spacing=(2, 2))
    plot.disagreements({"gland": shown}, tmp_path / "worst.png")
    pixels = imread(tmp_path / "worst.png")[..., :3]
    panel = pixels[: len(pixels) // 2]  # the legend below has both colours too
    contour, found = (
        np.argwhere(np.abs(panel - to_rgb(colour)).max(axis=-1) < 0.05).mean(0) for colour in (plot.CONTOUR, plot.MASK)
    )
    assert contour[0] < found[0]
    assert contour[1] < found[1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cases": [{"case": "x", "split": "test", "image": "ct.nii.gz", "contours": {}}]}, "must be one of"),
        ({"cases": [{"case": "x", "image": "gone.nii.gz", "contours": {}}]}, "does not exist"),
        ({"cases": [{"case": "x", "image": "ct.nii.gz", "contours": {"spleen": None}}]}, "not listed"),
        ({"cases": [{"case": "x"}]}, "missing"),
    ],
)
def test_a_wrong_data_set_says_what_is_wrong(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    data = site_data(tmp_path)
    data.write_text(json.dumps({**json.loads(data.read_text()), **change}))
    with pytest.raises(DatasetError, match=words):
        read_dataset(data)


def test_openkbp_leaves_out_contours_that_cannot_be_trusted(tmp_path: Path) -> None:
    entry = {
        "case": "train_pt_1",
        "oar_voxels": {"SpinalCord": 9, "Larynx": 9, "Mandible": 9},
        "oar_ct_coverage": {"SpinalCord": 1.0, "Larynx": 0.5, "Mandible": 1.0},
        "flags": ["spinal_cord_label_oversized_477ml"],
    }
    index = {"labels": {"2": "SpinalCord", "6": "Larynx", "7": "Mandible"}, "cases": [entry]}
    (tmp_path / "index.json").write_text(json.dumps(index))
    described = openkbp(tmp_path)
    assert list(described["cases"][0]["contours"]) == ["mandible"]
    assert described["cases"][0]["contours"]["mandible"]["value"] == 7
