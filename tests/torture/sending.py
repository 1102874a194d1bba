"""What modalities do: DCMTK sends studies, is cut off, sends twice, sends late; others use STOW-RS, and a RIS sends a
report. What was acknowledged is remembered.
"""

import contextlib
import http.client
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom.presentation import build_context

from dicom_node.scu.association import Peer, associated
from dicom_node.synthesis import Subject, ct_series
from tests.support.images import edit
from tests.support.peers import storescu_command
from tests.support.ports import LOOPBACK

GIVE_UP_SECONDS = 600.0  # a sender tries again for so long; a node that takes nothing for so long has lost
AGAIN_SECONDS = 0.3
ANSWER_SECONDS = 60.0
REPORT = b"FINDINGS: 8 mm solid nodule in the right upper lobe."
SENDING = re.compile(r"Sending file: (.*)$")
RESPONSE = "Received Store Response"
SUCCESS = f"{RESPONSE} (Success)"


@dataclass
class Study:
    """One series of one study on the sender's disk."""

    uid: str
    series_uid: str
    images: dict[str, Path]  # by SOP Instance UID, inferior slice first
    acknowledged: set[str] = field(default_factory=set)  # Success was heard
    leaves: bool = False  # its images may be removed
    reported: bool = False  # its report was taken
    waits: list[tuple[float, float]] = field(default_factory=list)  # for an image's response: begin, seconds

    @property
    def paths(self) -> list[Path]:
        """The files, inferior slice first."""
        return list(self.images.values())


def new_study(
    folder: Path, number: int, seed: int, slices: int, *, description: str = "pacs", promised: int | None = None
) -> Study:
    """A small CT with a bright box that is its own, whose headers may promise a number of images."""
    image = np.full((slices, 24, 24), -1000.0, np.float32)
    image[1:-1, 6 : 10 + number % 8, 6:18] = 400 + number
    subject = Subject(patient_id=f"T{number:04d}", accession_number=f"A{seed}.{number}", study_description=description)
    paths = ct_series(image, (3.0, 2.0, 2.0), folder, subject=subject, seed=seed)
    for path in paths if promised else ():
        edit(path, ImagesInAcquisition=promised, AcquisitionNumber=1)
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
    heard, current, began = 0, "", time.monotonic()
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    ) as sender:
        for line in sender.stderr or ():
            if found := SENDING.search(line):
                current, began = by_path[found[1].strip()], time.monotonic()
            elif RESPONSE in line:
                study.waits.append((began, time.monotonic() - began))
            if SUCCESS in line:
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


@contextlib.contextmanager
def association_of(study: Study, node: Peer) -> Iterator[Callable[[Path], None]]:
    """An association that stays open until the block ends; what it gives sends an image. Raises PeerError."""
    paths = {path: uid for uid, path in study.images.items()}
    with associated(node, [build_context(CTImageStorage, ExplicitVRLittleEndian)], calling_ae="MODALITY") as line:

        def send(path: Path) -> None:
            answer = line.send_c_store(pydicom.dcmread(path)) if line.is_established else pydicom.Dataset()
            if answer.get("Status") == 0x0000:
                study.acknowledged.add(paths[path])

        yield send


def send_by_web(study: Study, port: int, token: str, paths: Sequence[Path], *, cut_off: bool = False) -> None:
    """One STOW-RS request (PS3.18 section 10.5). `cut_off`: the sender dies in the middle."""
    start = b"--PART\r\nContent-Type: application/dicom\r\n\r\n"
    body = b"".join(start + path.read_bytes() + b"\r\n" for path in paths) + b"--PART--\r\n"
    kind = 'multipart/related; type="application/dicom"; boundary=PART'
    with contextlib.suppress(OSError, http.client.HTTPException), _to_node(port) as line:
        line.putrequest("POST", "/studies")
        headers = {"Authorization": f"Bearer {token}", "Content-Type": kind, "Content-Length": str(len(body))}
        for name, value in headers.items():
            line.putheader(name, value)
        line.endheaders()
        line.send(body[: len(body) // 2] if cut_off else body)
        if not cut_off and (answer := line.getresponse()).status in (200, 202):
            stored = pydicom.Dataset.from_json(json.load(answer)).get("ReferencedSOPSequence") or ()
            study.acknowledged |= {str(item.ReferencedSOPInstanceUID) for item in stored}


def send_report(study: Study, port: int, token: str) -> None:
    """A report on the study, again and again until it is taken."""
    deadline = time.monotonic() + GIVE_UP_SECONDS
    while not study.reported:
        with contextlib.suppress(OSError, http.client.HTTPException), _to_node(port) as line:
            line.request("POST", f"/reports?study={study.uid}", REPORT, {"Authorization": f"Bearer {token}"})
            study.reported = line.getresponse().status == 201
        if time.monotonic() > deadline:
            raise AssertionError(f"the report on study {study.uid} was not taken in {GIVE_UP_SECONDS:g} s")
        time.sleep(AGAIN_SECONDS)


def _to_node(port: int) -> contextlib.closing[http.client.HTTPConnection]:
    return contextlib.closing(http.client.HTTPConnection(LOOPBACK, port, timeout=ANSWER_SECONDS))
