"""Reads `plans.json`, which holds every dimension of a model, and refuses a file from which no network can be built.

The published file follows nnU-Net's plans: patch size and encoder of the configuration `3d_fullres`. The prompt side
has no keys there, so the published values are the defaults here. An optional section `voxtell` of the same file
overrides them and carries what else a model needs: its name, its normalization, the spacing it was trained at.
Triples are (S, A, R): superior, anterior, right.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import prod
from pathlib import Path
from typing import Any, Literal

from voxtell.card import Card
from voxtell.errors import ModelError
from voxtell.model.limits import read_json, require_within

Triple = tuple[int, int, int]

ENGINE = "voxtell"
"""The engine's name, in results and messages."""
PLANS = "plans.json"
CONFIGURATION = "3d_fullres"

# The only layer classes a plans.json may name. Nothing in the file is imported by its name.
LAYERS = {
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "nonlin": "torch.nn.LeakyReLU",
    "dropout_op": None,
}


@dataclass(frozen=True)
class EncoderPlans:
    """Dimensions of the residual encoder; one entry per stage, from the finest grid to the coarsest.

    features: channels. strides: down-sampling on entering the stage. kernel_sizes: odd. blocks: residual blocks.

    Raises:
        ModelError: when lengths differ, there are fewer than 3 stages, or a kernel is even.
    """

    features: tuple[int, ...] = (32, 64, 128, 256, 320, 320)
    strides: tuple[Triple, ...] = ((1, 1, 1),) + ((2, 2, 2),) * 5
    kernel_sizes: tuple[Triple, ...] = ((3, 3, 3),) * 6
    blocks: tuple[int, ...] = (1, 3, 4, 6, 6, 6)
    conv_bias: bool = True
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        n = len(self.features)
        if n < 3:
            raise ModelError(f"the encoder needs at least 3 stages, the plans name {n}")
        for name in ("strides", "kernel_sizes", "blocks"):
            if len(getattr(self, name)) != n:
                raise ModelError(f"the plans name {n} stages but {len(getattr(self, name))} {name}")
        require_within("the number of stages", [n], 3, 16)
        require_within("features_per_stage", self.features, 1, 8192)
        require_within("strides", sum(self.strides, ()), 1, 16)
        require_within("kernel_sizes", sum(self.kernel_sizes, ()), 1, 31)
        require_within("n_blocks_per_stage", self.blocks, 1, 64)
        require_within("norm_eps", [self.norm_eps], 0, 1)
        if any(k % 2 == 0 for k in sum(self.kernel_sizes, ())):
            raise ModelError(f"kernel sizes must be odd, the plans name {self.kernel_sizes}")

    def reduction(self, stage: int) -> Triple:
        """Returns how many input voxels one voxel of `stage` spans along each axis; stage 0 is the finest."""
        s, a, r = (prod(stride[axis] for stride in self.strides[: stage + 1]) for axis in range(3))
        return s, a, r


@dataclass(frozen=True)
class PromptPlans:
    """Dimensions of the prompt decoder and of the guidance that it gives to the mask decoder.

    text_dim: numbers per text embedding. query_dim: width of a query. ffn_dim: width of the feed-forward layers.
    guidance_channels: guidance maps per stage of the mask decoder.

    Raises:
        ModelError: when the heads do not divide query_dim.
    """

    text_dim: int = 2560
    query_dim: int = 2048
    ffn_dim: int = 2048
    heads: int = 8
    layers: int = 6
    guidance_channels: int = 32
    fusion_stages: int = 5  # finest mask-decoder stages that see the guidance
    memory_stage: int = -2  # encoder stage whose features are the memory

    def __post_init__(self) -> None:
        for name in ("text_dim", "query_dim", "ffn_dim", "heads", "guidance_channels"):
            require_within(name, [getattr(self, name)], 1, 65_536)
        require_within("layers", [self.layers], 1, 64)
        require_within("fusion_stages", [self.fusion_stages], 0, 16)
        require_within("memory_stage", [self.memory_stage], -16, 15)
        if self.query_dim % self.heads:
            raise ModelError(f"query_dim {self.query_dim} is not a multiple of {self.heads} heads")


@dataclass(frozen=True)
class InputPlans:
    """Says how an image is prepared before the network sees it. Grey values are HU for "ct".

    Raises:
        ModelError: when the normalization is unknown or its figures make no sense, or a spacing bound stands alone.
    """

    normalization: Literal["zscore", "ct"] = "zscore"
    # For "ct": clip to [lower, upper] HU, subtract the mean, divide by the standard deviation.
    lower: float = -1000.0
    upper: float = 1000.0
    mean: float = 0.0
    std: float = 1.0
    # The image is cropped to the voxels above this value; None crops to the voxels that are not zero.
    foreground_above: float | None = None
    # Millimetres per voxel (S, A, R) of the training grids; None never resamples.
    spacing: tuple[float, float, float] | None = None
    # Spacings within these bounds are taken as they are; outside them the image is resampled to `spacing`.
    spacing_min: tuple[float, float, float] | None = None
    spacing_max: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        if self.normalization not in ("zscore", "ct"):
            raise ModelError(f"normalization {self.normalization!r} is unknown; it is 'zscore' or 'ct'")
        for name in ("lower", "upper", "mean", "std"):
            require_within(name, [getattr(self, name)], -1e6, 1e6)
        for name in ("spacing", "spacing_min", "spacing_max"):
            require_within(name, getattr(self, name) or (), 1e-3, 1e3)
        if self.std <= 0 or self.lower >= self.upper:
            raise ModelError("normalization needs std > 0 and lower < upper")
        if (self.spacing_min is None) != (self.spacing_max is None) or (self.spacing_min and self.spacing is None):
            raise ModelError("spacing_min and spacing_max come together, with spacing")


@dataclass(frozen=True)
class Plans:
    """Every dimension of a VoxTell model, and its card. Without arguments: the published architecture.

    Raises:
        ModelError: when the patch is not a multiple of the encoder's reduction, or fusion_stages is out of range.
    """

    patch_size: Triple = (192, 192, 192)  # voxels (S, A, R)
    encoder: EncoderPlans = field(default_factory=EncoderPlans)
    prompt: PromptPlans = field(default_factory=PromptPlans)
    input: InputPlans = field(default_factory=InputPlans)
    card: Card = field(default_factory=Card)

    def __post_init__(self) -> None:
        require_within("patch_size", self.patch_size, 1, 2048)
        if not -len(self.encoder.features) <= self.prompt.memory_stage < len(self.encoder.features):
            raise ModelError(
                f"memory_stage is {self.prompt.memory_stage}, there are {len(self.encoder.features)} stages"
            )
        coarsest = self.encoder.reduction(len(self.encoder.features) - 1)
        if any(size % step for size, step in zip(self.patch_size, coarsest, strict=True)):
            raise ModelError(f"patch size {self.patch_size} is not a multiple of the encoder's reduction {coarsest}")
        if not 1 <= self.prompt.fusion_stages <= self.decoder_stages:
            raise ModelError(f"fusion_stages is {self.prompt.fusion_stages}, it must be 1 to {self.decoder_stages}")

    @property
    def decoder_stages(self) -> int:
        """Number of stages of the mask decoder, one per up-sampling."""
        return len(self.encoder.features) - 1

    @property
    def memory_channels(self) -> int:
        """Channels of the encoder stage to which the prompts attend."""
        return self.encoder.features[self.prompt.memory_stage]

    @property
    def memory_grid(self) -> Triple:
        """Voxels (S, A, R) of that stage for one window; the prompt decoder sees each of them as one token."""
        stage = range(len(self.encoder.features))[self.prompt.memory_stage]
        s, a, r = (size // step for size, step in zip(self.patch_size, self.encoder.reduction(stage), strict=True))
        return s, a, r

    @staticmethod
    def read(path: Path) -> "Plans":
        """Returns the plans in a file.

        Raises:
            ModelError: when the file or a key is missing or wrong; names both.
        """
        try:
            return Plans.parse(read_json(path))
        except FileNotFoundError:
            raise ModelError(f"{path} is missing; a model directory holds plans.json beside its weights") from None
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error
        except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
            raise ModelError(f"{path} is no plans.json: {error!r:.200}; put that of the model in its place") from error

    @staticmethod
    def parse(document: Mapping[str, Any]) -> "Plans":
        """Returns the plans of a decoded plans.json, published or bundled.

        Raises:
            ModelError: when a value is wrong or a key of the section `voxtell` is unknown.
            KeyError: when a key is missing; `read` names the file.
            TypeError: when a value is of the wrong type.
            ValueError: when a value is of the wrong form.
            AttributeError: when a section is of the wrong type.
        """
        configuration = document["configurations"][CONFIGURATION]
        section = dict(document.get("voxtell", {}))
        encoder = _encoder(configuration["architecture"]["arch_kwargs"])
        section.setdefault("fusion_stages", min(PromptPlans.fusion_stages, len(encoder.features) - 1))
        parts = {name: _take(kind, section) for name, kind in _SECTIONS.items()}
        if section:
            raise ModelError(f"section 'voxtell' has unknown keys: {', '.join(sorted(section))}")
        return Plans(patch_size=_triple(configuration["patch_size"]), encoder=encoder, **parts)

    def document(self) -> dict[str, Any]:
        """Returns the content of a plans.json from which `parse` makes these plans again."""
        encoder = {
            "n_stages": len(self.encoder.features),
            "features_per_stage": self.encoder.features,
            "kernel_sizes": self.encoder.kernel_sizes,
            "strides": self.encoder.strides,
            "n_blocks_per_stage": self.encoder.blocks,
            "n_conv_per_stage_decoder": [1] * self.decoder_stages,
            "conv_bias": self.encoder.conv_bias,
            "norm_op_kwargs": {"eps": self.encoder.norm_eps, "affine": True},
            "dropout_op_kwargs": None,
            "nonlin_kwargs": {"inplace": True},
            **LAYERS,
        }
        architecture = {"arch_kwargs": encoder, "_kw_requires_import": list(LAYERS)}
        configuration = {"patch_size": self.patch_size, "architecture": architecture}
        section = {f.name: getattr(part, f.name) for part in (self.prompt, self.input, self.card) for f in fields(part)}
        return {"configurations": {CONFIGURATION: configuration}, "voxtell": section}


_SECTIONS: dict[str, Any] = {"prompt": PromptPlans, "input": InputPlans, "card": Card}


def _encoder(kwargs: Mapping[str, Any]) -> EncoderPlans:
    """Returns the encoder's plans from nnU-Net's `arch_kwargs`; refuses layers other than `LAYERS`."""
    for key, known in LAYERS.items():
        if kwargs.get(key) not in (known, None):
            raise ModelError(f"{key} is {kwargs[key]!r}, this network is built with {known or 'none'}")
    if any(n != 1 for n in kwargs["n_conv_per_stage_decoder"]):
        raise ModelError("n_conv_per_stage_decoder must be 1 at every stage")
    norm = kwargs["norm_op_kwargs"] or {}
    if not norm.get("affine"):
        raise ModelError("norm_op_kwargs must say affine: true")
    return EncoderPlans(
        features=tuple(int(n) for n in kwargs["features_per_stage"]),
        strides=tuple(_triple(s) for s in kwargs["strides"]),
        kernel_sizes=tuple(_triple(k) for k in kwargs["kernel_sizes"]),
        blocks=tuple(int(n) for n in kwargs["n_blocks_per_stage"]),
        conv_bias=bool(kwargs["conv_bias"]),
        norm_eps=float(norm.get("eps", 1e-5)),
    )


def _take(kind: Any, section: dict[str, Any]) -> Any:
    """Builds one part of the plans from its keys of the section, and removes these from the section."""
    own = {f.name: section.pop(f.name) for f in fields(kind) if f.name in section}
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in own.items()})


def _triple(value: Any) -> Triple:
    s, a, r = (int(n) for n in value)
    return s, a, r
