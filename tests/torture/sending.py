"""What modalities do: DCMTK sends studies, is cut off, sends twice, sends late; and remembers what was acknowledged."""

import os
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom

from dicom_node.sender import Peer
from dicom_node.synthesis import Subject, ct_series
from tests.peers import storescu_command

GIVE_UP_SECONDS = 600.0  # a sender tries again for so long; a node that takes nothing for so long has lost
AGAIN_SECONDS = 0.3
SENDING = re.compile(r"Sending file: (.*)$")
SUCCESS = "Received Store Response (Success)"


@dataclass
class Study:
    """One series of one study on the sender's disk."""

    uid: str
    series_uid: str
    images: dict[str, Path]  # by SOP Instance UID, inferior slice first
    acknowledged: set[str] = field(default_factory=set)  # Success was heard

    @property
    def paths(self) -> list[Path]:
        """The files, inferior slice first."""
        return list(self.images.values())


def new_study(folder: Path, number: int, seed: int, slices: int) -> Study:
    """A small CT with a bright box that is its own."""
    image = np.full((slices, 24, 24), -1000.0, np.float32)
    image[1:-1, 6 : 10 + number % 8, 6:18] = 400 + number
    subject = Subject(patient_id=f"T{number:04d}", accession_number=f"A{seed}.{number}")
    paths = ct_series(image, (3.0, 2.0, 2.0), folder, subject=subject, seed=seed)
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in paths]
    images = {str(header.SOPInstanceUID): path for header, path in zip(headers, paths, strict=True)}
    return Study(str(headers[0].StudyInstanceUID), str(headers[0].SeriesInstanceUID), images)


def send_once(
    study: Study, node: Peer, paths: Sequence[Path], *, cut_after: int | None = None, abort: bool = False
) -> None:
    """One association. `cut_after`: the sender's process dies when it has heard that many successes."""
    options = ("-v", *(("--abort",) if abort else ()))
    command = storescu_command(node, *paths, options=options)
    environment = {**os.environ, "TCP_NODELAY": "1"}
    by_path = {str(path): uid for uid, path in study.images.items()}
    heard, current = 0, ""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    ) as sender:
        for line in sender.stderr or ():
            if found := SENDING.search(line):
                current = by_path[found[1].strip()]
            elif SUCCESS in line:
                study.acknowledged.add(current)
                heard += 1
                if heard == cut_after:
                    sender.kill()


def send_all(study: Study, node: Peer, paths: Sequence[Path], *, abort: bool = False) -> None:
    """Again and again, those images that were not acknowledged, until all are."""
    deadline = time.monotonic() + GIVE_UP_SECONDS
    wanted = {path: uid for uid, path in study.images.items() if path in set(paths)}
    while missing := [path for path, uid in wanted.items() if uid not in study.acknowledged]:
        send_once(study, node, missing, abort=abort)
        if time.monotonic() > deadline:
            raise AssertionError(f"{len(missing)} images of study {study.uid} were not taken in {GIVE_UP_SECONDS:g} s")
        time.sleep(AGAIN_SECONDS)
