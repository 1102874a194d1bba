"""Connections by the hundred, and connections of peers that do nothing with them."""

import os
import subprocess
import sys

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom.presentation import build_context

from dicom_node.peer import Peer, Timeouts, associated
from tests.dicom_node.conftest import small_instance

CT = [build_context(CTImageStorage, ExplicitVRLittleEndian)]
MANY = 1100  # descriptors; select() knows none above 1023

LISTENING_ABOVE_1023 = f"""
import os, resource, sys
from pathlib import Path
from dicom_node.listener import Listener
from dicom_node.store import Store
resource.setrlimit(resource.RLIMIT_NOFILE, ({MANY} + 100, {MANY} + 100))
taken = [os.dup(0) for _ in range({MANY})]
with Listener(Store(Path(sys.argv[1])), ae_title="VOXTELL", host="127.0.0.1", port=0, on_arrival=print) as listener:
    print(listener.port, flush=True)
    sys.stdin.read()
"""


def test_a_listener_with_more_than_a_thousand_open_files_takes_instances(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", LISTENING_ABOVE_1023, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        peer = Peer("VOXTELL", "127.0.0.1", int(process.stdout.readline()))
        with associated(peer, CT, calling_ae="SCU", timeouts=Timeouts(association=20)) as association:
            assert association.send_c_store(small_instance()).Status == 0x0000
        process.stdin.close()
        assert "1.2.3.4.1" in process.stdout.read()
    assert len(list(tmp_path.glob("studies/**/*.dcm"))) == 1
