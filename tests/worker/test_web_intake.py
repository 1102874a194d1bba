"""STOW-RS in as the settings say: the same intake as C-STORE, the same jobs."""

from contextlib import AbstractContextManager

import numpy as np
import pytest
from dicomweb_client import DICOMwebClient
from pydicom import dcmread
from requests import Session

from dicom_node.scp.sessions import Sessions
from dicom_node.synthesis import ct_series
from tests.support.listening import QUIET, IntakeSite
from tests.support.ports import free_port
from worker.errors import SettingsError
from worker.queue.embedded_server import running_queue
from worker.servers.ports import serving_stow

pytestmark = pytest.mark.peers

LIVER = "name: liver\nmatch: {Modality: CT, CallingAE: STOW-RS}\nprompts: [liver]\n"


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home"
    (folder / "protocols").mkdir(parents=True)
    (folder / "protocols" / "liver.yaml").write_text(LIVER)
    return folder


def web_side(node: IntakeSite) -> AbstractContextManager[None]:
    """The servers of the node besides its DICOM listener."""
    intake = node.intake
    sessions = Sessions(node.store, on_arrival=intake.arrived, on_end=intake.association_ended, shared=False)
    return serving_stow(node.settings, node.store, sessions)


def test_what_a_dicomweb_client_stores_becomes_a_job(home, tmp_path):
    (tmp_path / "token").write_text("secret\n")
    node = IntakeSite(home, stow_port=free_port(), stow_token_file=tmp_path / "token", min_free_bytes=0)
    images = ct_series(np.zeros((4, 8, 8), np.float32), (3.0, 1.0, 1.0), tmp_path / "ct")
    with running_queue(node.settings), web_side(node):
        session = Session()
        session.headers["Authorization"] = "Bearer secret"
        client = DICOMwebClient(f"http://127.0.0.1:{node.settings.stow_port}", session=session)
        node.lag = QUIET + 1
        answer = client.store_instances([dcmread(path) for path in images])
        node.lag = 0.0
        assert len(answer.ReferencedSOPSequence) == 4
        (job,) = node.tick()
        assert (job.protocol, len(job.spec.instances)) == ("liver", 4)
        node.close()


@pytest.mark.parametrize(("content", "reason"), [(None, "needs a token"), ("", "needs a token"), (b"\xff", "be read")])
def test_without_a_token_it_does_not_start(home, tmp_path, content, reason):
    token = tmp_path / "token"
    if content is not None:
        token.write_bytes(content if isinstance(content, bytes) else content.encode())
    node = IntakeSite(home, stow_port=free_port(), stow_token_file=token if content is not None else None)
    with (
        pytest.raises(SettingsError, match=f"{reason}.*VOXTELL_STOW_TOKEN_FILE"),
        web_side(node),
    ):
        pytest.fail("it started")
    node.close()
