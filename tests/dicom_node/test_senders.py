"""Real senders into the listener, each with its own habits of cutting messages; the bytes lie in the store."""

import os
import subprocess

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom.presentation import build_context

from dicom_node.scp.access import Limits
from dicom_node.scu.association import associated
from dicom_node.synthesis import ct_series
from tests.support.peers import orthanc, program, storescu
from tests.support.waiting import wait_until

pytestmark = pytest.mark.peers

SLICES = 6


@pytest.fixture
def images(tmp_path):
    """A CT of noise: 128 kB a slice, so that messages do not end where PDUs do."""
    noise = np.random.default_rng(0).integers(-1000, 2000, (SLICES, 256, 256)).astype(np.float32)
    return ct_series(noise, (3.0, 1.0, 1.0), tmp_path / "ct")


def assert_held(here, images) -> None:
    """Every image lies in the store with the very pixels and attributes that were sent."""
    wait_until(lambda: here.ends)
    stored = {stored.sop_uid: dcmread(stored.path) for stored in here.store.walk()}
    sent = {str(image.SOPInstanceUID): image for image in map(dcmread, images)}
    assert stored == sent
    assert len(here.arrivals) == len(images)
    assert not here.ends[0].aborted
    assert here.quarantined() == []


@pytest.mark.parametrize("pdu", ["4096", "16384", "65534", "131072"])
def test_storescu_with_pdus_of_each_size(site, images, pdu):
    with site() as here:
        assert storescu(here.peer, *images, options=["--max-send-pdu", pdu]).returncode == 0
        assert_held(here, images)


def test_storescu_to_a_listener_that_takes_small_pdus_only(site, images):
    with site(limits=Limits(pdu_bytes=4096, free_bytes=0)) as here:
        assert storescu(here.peer, *images).returncode == 0
        assert_held(here, images)


def test_dcmsend(site, images):
    with site() as here:
        command = [program("dcmsend"), "--call", here.peer.ae_title, here.peer.host, str(here.peer.port), *images]
        done = subprocess.run(
            [str(word) for word in command], capture_output=True, env={**os.environ, "TCP_NODELAY": "1"}, timeout=120
        )
        assert done.returncode == 0, done.stderr
        assert_held(here, images)


def test_pynetdicom(site, images):
    contexts = [build_context(CTImageStorage, ExplicitVRLittleEndian)]
    with site() as here:
        with associated(here.peer, contexts, calling_ae="SCU") as association:
            assert {association.send_c_store(path).Status for path in images} == {0x0000}
        assert_held(here, images)


def test_orthanc(site, images, tmp_path):
    with site() as here, orthanc(tmp_path / "orthanc") as sender:
        assert storescu(sender.peer, *images).returncode == 0
        sender.add_modality(here.peer)
        (study,) = sender.get("/studies")
        assert sender.post(f"/modalities/{here.peer.ae_title}/store", study)["FailedInstancesCount"] == 0
        sender.post(f"/modalities/{here.peer.ae_title}/store", {"Resources": [study], "Permissive": False})
        wait_until(lambda: len(here.arrivals) == 2 * SLICES)
        assert {stored.sop_uid for stored in here.store.walk()} == sender.sop_uids()
        assert here.quarantined() == []
