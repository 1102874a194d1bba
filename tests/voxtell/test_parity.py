"""Equal to `voxtell` 0.1.2 from PyPI: its logits, computed once and kept as samples, against ours.

`data/upstream_small.npz` was written by `scripts/parity/upstream.py small` in upstream's own environment; weights,
window and embeddings are drawn again from its seed. The full-size comparison is `make parity`.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from scripts.parity.seeded import seeded_embeddings, seeded_weights
from voxtell.model.network import VoxTell, mlp
from voxtell.model.plans import EncoderPlans, Plans, PromptPlans

FROZEN = Path(__file__).parent / "data" / "upstream_small.npz"


@pytest.mark.long
def test_logits_equal_those_that_upstream_computed() -> None:
    frozen = np.load(FROZEN)
    seed = int(frozen["seed"])
    one, two = (1, 1, 1), (2, 2, 2)
    plans = Plans(
        patch_size=(24, 24, 24),
        encoder=EncoderPlans(strides=(one, two, one, one, one, two), blocks=(1,) * 6),
        prompt=PromptPlans(text_dim=16, query_dim=64),
    )
    network = VoxTell(plans).eval()
    network.project_text_embed = mlp(16, 2048, 64)  # upstream fixes this width
    weights = seeded_weights(network.state_dict(), seed)
    network.load_state_dict({"pos_embed": network.pos_embed, **weights}, strict=True)
    window = np.random.default_rng([seed, 2]).standard_normal((24, 24, 24), dtype=np.float32)
    with torch.inference_mode():
        (logits,) = network(torch.from_numpy(window)[None, None], seeded_embeddings(3, 16, seed)[None])
    ours = logits[0].numpy()[(slice(None), *frozen["where"].T)]
    assert frozen["logits"].std() > 0.05 * frozen["range"]
    np.testing.assert_allclose(ours, frozen["logits"], rtol=0, atol=1e-5 * float(frozen["range"]))
