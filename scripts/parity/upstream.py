"""Runs `voxtell` 0.1.2 from PyPI, in its own environment, as a black box: weights, logits, masks, embeddings to files.

    upstream.py weights MODEL_DIR          a full-size checkpoint of the published layout, with seeded weights
    upstream.py window  MODEL_DIR IN OUT   IN: window, embeddings           OUT: logits, seconds
    upstream.py volume  MODEL_DIR IN OUT   IN: image, embeddings            OUT: logits (blended, of the crop), seconds
    upstream.py masks   MODEL_DIR IN OUT   IN: image, embeddings            OUT: masks, seconds, peak
    upstream.py embed   MODEL_DIR IN OUT   IN: prompts, text_model          OUT: embeddings
    upstream.py flops   MODEL_DIR IN OUT   IN: window, embeddings           OUT: flops, counted without computing
    upstream.py small   OUT                sampled logits of a small network, for the tests (data/upstream_small.npz)

A device after OUT (cuda, cuda:1) is where it computes, the CPU without.
"""

import json
import resource
import sys
import time
from pathlib import Path

import no_torchvision  # noqa: F401 - first of all
import numpy as np
import torch
from seeded import seeded_embeddings, seeded_weights
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from voxtell.inference.runner.predictor import VoxTellPredictor
from voxtell.model.voxtell_model import VoxTellModel

SEED = 2026


def model(features, strides, blocks, query_dim, text_dim, heads):
    """Upstream's network with the layer classes of the published plans."""
    n = len(features)
    return VoxTellModel(
        input_channels=1, n_stages=n, features_per_stage=features, conv_op=nn.Conv3d, kernel_sizes=[[3] * 3] * n,
        strides=strides, n_blocks_per_stage=blocks, n_conv_per_stage_decoder=[1] * (n - 1), conv_bias=True,
        norm_op=nn.InstanceNorm3d, norm_op_kwargs={"eps": 1e-5, "affine": True}, nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True}, decoder_layer=4, text_embedding_dim=text_dim, num_maskformer_stages=5,
        num_heads=heads, query_dim=query_dim, project_to_decoder_hidden_dim=query_dim, deep_supervision=False,
    )  # fmt: skip


def set_weights(network: nn.Module, seed: int) -> nn.Module:
    """Give every tensor its seeded value; aliases share storage with what they repeat."""
    state = network.state_dict()
    for name, values in seeded_weights(state, seed).items():
        state[name].copy_(values)
    return network.eval()


def write_weights(directory: Path) -> None:
    plans = json.loads((directory / "plans.json").read_text())
    encoder = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    network = model(
        encoder["features_per_stage"],
        encoder["strides"],
        encoder["n_blocks_per_stage"],
        query_dim=2048,
        text_dim=2560,
        heads=32,
    )
    checkpoint = directory / "fold_0" / "checkpoint_final.pth"
    checkpoint.parent.mkdir(exist_ok=True)
    torch.save({"network_weights": set_weights(network, SEED).state_dict()}, checkpoint)


def write_small(out: Path) -> None:
    """One block per stage and few strides: the published widths on a window of 24 x 24 x 24."""
    strides = [[1] * 3, [2] * 3, [1] * 3, [1] * 3, [1] * 3, [2] * 3]
    network = model([32, 64, 128, 256, 320, 320], strides, [1] * 6, query_dim=64, text_dim=16, heads=32)
    set_weights(network, SEED)
    window = np.random.default_rng([SEED, 2]).standard_normal((24, 24, 24), dtype=np.float32)
    with torch.inference_mode():
        logits = network(torch.from_numpy(window)[None, None], seeded_embeddings(3, 16, SEED)[None])[0].numpy()
    where = np.random.default_rng([SEED, 3]).integers(0, 24, (200, 3))
    np.savez(out, seed=SEED, where=where.astype(np.int16), logits=logits[(slice(None), *where.T)], range=np.ptp(logits))


def main(command: str, *arguments: str) -> None:
    if command == "weights":
        return write_weights(Path(arguments[0]))
    if command == "small":
        return write_small(Path(arguments[0]))
    directory, source, target, *device = arguments
    device = torch.device(*device or ["cpu"])
    given = dict(np.load(source))
    text_model = {"text_encoding_model": str(given["text_model"])} if "text_model" in given else {}
    predictor = VoxTellPredictor(directory, device, use_precomputed_embeddings=False, **text_model)
    embeddings = torch.from_numpy(given["embeddings"])[None].to(device) if "embeddings" in given else None
    if device.type == "cuda" and command == "masks":  # what happens once, such as the choice of kernels, is not timed
        sizes = zip(given["image"].shape, predictor.patch_size, strict=True)
        middle = tuple(slice(max(0, (size - length) // 2), (size + length) // 2) for size, length in sizes)
        predictor.predict_single_image(given["image"][middle][None], text_embeddings=embeddings[:, :1])
    start, cpu = time.perf_counter(), time.process_time()
    with torch.inference_mode():
        if command == "embed":
            result = {"embeddings": predictor.embed_text_prompts(given["prompts"].tolist()).float().numpy()}
        elif command == "flops":
            with FlopCounterMode(display=False) as counter:
                predictor.network.to("meta")(
                    torch.from_numpy(given["window"])[None, None].to("meta"), embeddings.to("meta")
                )
            result = {"flops": counter.get_total_flops()}
        elif command == "window":
            result = {"logits": predictor.network(torch.from_numpy(given["window"])[None, None], embeddings)[0].numpy()}
        elif command == "volume":
            crop = predictor.preprocess(given["image"][None])[0]
            logits = predictor.predict_sliding_window_return_logits(crop, embeddings)
            result = {"logits": logits.float().numpy()}
        else:
            result = {"masks": predictor.predict_single_image(given["image"][None], text_embeddings=embeddings)}
    seconds, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if device.type == "cuda":  # masks and logits have come back, so all its work is done
        peak = torch.cuda.max_memory_allocated(device)
    np.savez(target, seconds=seconds, cpu_seconds=time.process_time() - cpu, peak=peak, **result)
    return None


main(*sys.argv[1:])
