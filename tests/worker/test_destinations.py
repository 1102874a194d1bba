"""Peers as the settings name them: plain, by TLS, and what is said when a certificate is missing."""

from pathlib import Path

import pytest

from dicom_node.errors import TlsError
from worker.destinations.dicom import peer_by_ae_title, peer_of
from worker.servers.tls import listener_tls
from worker.settings import Settings, load

PLAIN = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 4242}


def settings(home: Path, **more: object) -> Settings:
    return load(home=home, destinations=[PLAIN, PLAIN | {"name": "safe", "ae_title": "SAFE", "tls": True}], **more)


def test_plain_dicom_unless_the_settings_say_tls(tmp_path: Path) -> None:
    plain, safe = (peer_of(destination, settings(tmp_path)) for destination in settings(tmp_path).destinations)
    assert plain.tls is None
    assert safe.tls is not None
    assert safe.tls.check_hostname
    assert listener_tls(settings(tmp_path)) is None


def test_a_peer_is_found_by_its_ae_title(tmp_path: Path) -> None:
    found = peer_by_ae_title("PACS", settings(tmp_path))
    assert str(found) == "PACS@127.0.0.1:4242"
    assert peer_by_ae_title("NOBODY", settings(tmp_path)) is None


def test_a_certificate_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    missing = settings(tmp_path, tls_certificate=tmp_path / "node.pem")
    with pytest.raises(TlsError, match=r"node\.pem"):
        listener_tls(missing)
    with pytest.raises(TlsError, match=r"node\.pem"):
        peer_of(missing.destination("safe"), missing)
