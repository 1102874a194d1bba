"""Defines the bundled model's dimensions and card."""

from voxtell.card import Card
from voxtell.model.plans import EncoderPlans, InputPlans, Plans, PromptPlans
from voxtell.training.cards import with_words
from voxtell.training.vocabulary import builtin

BUNDLED = with_words(
    Card(
        name="voxtell-small-hn",
        version="0.8.0",
        licence="Apache-2.0; trained on OpenKBP (https://github.com/ababier/open-kbp), MIT",
        notice="Not for diagnosis; seven structures of head and neck CT only, every contour needs review.",
        text_encoder="ngrams",
    ),
    builtin(),
)


def bundled_plans() -> Plans:
    """Returns the plans of a VoxTell of 5.9 million parameters: 12 MB in half precision, about 1 s per training step.

    The patch spans a head from ear to ear and from brainstem to larynx: 120 x 256 x 256 mm at the usual 2.5 x 4 x 4 mm.
    Five up-samplings as published, but no down-sampling of the slices in the last stage, which has only three of them.
    Hounsfield units are clipped to fat, soft tissue and the edge of bone, so that a gland stands out from the fat
    around it; air, and with it all padding, becomes zero.
    """
    return Plans(
        patch_size=(48, 64, 64),
        encoder=EncoderPlans(
            features=(16, 32, 64, 96, 96, 96),
            strides=((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2)),
            kernel_sizes=((3, 3, 3),) * 6,
            blocks=(1, 1, 2, 2, 2, 1),
        ),
        prompt=PromptPlans(
            text_dim=256, query_dim=160, ffn_dim=256, heads=4, layers=2, guidance_channels=16, fusion_stages=5
        ),
        input=InputPlans(
            normalization="ct",
            lower=-200.0,
            upper=400.0,
            mean=-200.0,
            std=120.0,
            foreground_above=-400.0,
            spacing=(2.5, 4.0, 4.0),
            spacing_min=(1.3, 3.0, 3.0),
            spacing_max=(3.7, 5.5, 5.5),
        ),
        card=BUNDLED,
    )
