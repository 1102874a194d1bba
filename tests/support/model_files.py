"""Directories that look like models: whole files of the published layout, without a network in them. No torch."""

import json
import struct
import zipfile
from pathlib import Path

import numpy as np


def looks_published(folder: Path) -> Path:
    """A directory with the files of published weights, each whole."""
    (folder / "fold_0").mkdir(parents=True)
    (folder / "plans.json").write_text("{}")
    with zipfile.ZipFile(folder / "fold_0" / "checkpoint_final.pth", "w") as archive:
        archive.writestr("archive/data.pkl", b"weights" * 40)
        archive.writestr("archive/version", b"3")
    np.savez(folder / "text_embeddings.npz", labels=np.array(["liver"]), embeddings=np.zeros((1, 4), np.float16))
    return folder


def write_safetensors(path: Path, values: int = 20) -> Path:
    """A .safetensors file with one tensor of float32."""
    header = json.dumps({"a": {"dtype": "F32", "shape": [values], "data_offsets": [0, 4 * values]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4 * values))
    return path
