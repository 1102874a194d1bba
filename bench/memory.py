"""Peak memory of many prompts on a large volume: all that there is but the network, whose logits are noise.

    python -m bench.memory [--shape 600 512 512] [--prompts 30]

What remains is the image, the windows' blending and the masks, as the published weights would need them on a CPU.
"""

import argparse
import resource
import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from tests.support.live_tensors import window_bytes
from voxtell.inference import preprocess, tiling
from voxtell.inference.assembly import Rows
from voxtell.inference.memory import CPU, admit, free_bytes
from voxtell.model.plans import Plans, Triple

GIB = 2**30


def peak() -> int:
    """Largest resident memory of this process so far, in bytes (Linux counts in kB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=[600, 512, 512], help="voxels (S, A, R)")
    parser.add_argument("--prompts", type=int, default=30)
    options = parser.parse_args()
    plans, shape = Plans(), preprocess.triple(options.shape)
    libraries = peak()
    image = np.random.default_rng(0).integers(-1000, 1000, shape, np.int16).astype(np.float32)
    image[0, 0, 0] = image[-1, -1, -1] = 1
    field = preprocess.prepare(image, plans)
    assert field is not None
    masks = np.zeros((options.prompts, *shape), np.bool_)
    admission = admit(plans, shape, options.prompts, results=masks.nbytes, number_bytes=4, device=CPU)
    print(
        f"with {free_bytes(CPU) / GIB:.1f} GiB free, {admission.prompts} of {options.prompts} prompts would go together"
    )
    noise = torch.randn(plans.patch_size)

    def predict(_: Triple) -> Iterator[Tensor]:
        return (noise for _ in masks)

    started = time.process_time()
    rows = Rows(field, masks, lambda logits: logits > 0)
    for part, logits in tiling.blend(shape, plans.patch_size, len(masks), predict, CPU):
        rows.take(part, logits)
    sums = (len(masks) + 1) * tiling.slab_bytes(shape, plans.patch_size)
    held = libraries + image.nbytes + field.volume.numpy().nbytes + masks.nbytes + sums
    print(f"volume {shape}, {options.prompts} prompts together")
    print(f"libraries {libraries / GIB:8.2f} GiB\nimage     {image.nbytes / GIB:8.2f} GiB, and as much normalized")
    print(f"masks     {masks.nbytes / GIB:8.2f} GiB\nsums      {sums / GIB:8.2f} GiB, of one slab of windows")
    print(f"peak      {peak() / GIB:8.2f} GiB, {(peak() - held) / GIB:.2f} GiB beyond all of these")
    for number in (torch.float16, torch.float32):
        held_at_once = window_bytes(plans, options.prompts, number) / GIB
        print(f"a window's tensors on a GPU, all in {number}: {held_at_once:.2f} GiB, without what cuDNN takes to work")
    print(f"blending, thresholding: {time.process_time() - started:.0f} CPU seconds; {masks.mean():.1%} of voxels set")


if __name__ == "__main__":
    main()
