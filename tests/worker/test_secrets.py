"""No password that the settings hold is ever printed, logged or kept in the ledger, whatever goes wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_node.scu.stow import WebPeer
from worker.destinations.dicomweb import WebDestination
from worker.errors import BrokerError, SettingsError
from worker.findings import Finding, VolumeFindings
from worker.ledger import Ledger
from worker.ledger.engine import EXAMPLE_URL
from worker.masking import SecretUrl, masked
from worker.settings import Settings, load

SECRET = "s3cr3t-wOrd"
REDIS = f"redis://worker:{SECRET}@127.0.0.1:1/0"
POSTGRES = f"postgresql+psycopg://worker:{SECRET}@127.0.0.1:1/ledger"
WEB = f"http://sender:{SECRET}@127.0.0.1:1/dicom-web"
ROOT = Path(__file__).parents[2]


def said(home: Path, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own with these settings."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VOXTELL_")}
    environment |= {"VOXTELL_HOME": str(home), "VOXTELL_PORT": "1", "PYTHONPATH": str(ROOT)}
    environment |= {f"VOXTELL_{name.upper()}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "worker", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.processes
@pytest.mark.parametrize("words", [("doctor",), ("doctor", "--json"), ("--debug", "jobs"), ("listen",)])
def test_no_command_prints_a_password_of_a_url(tmp_path, words):
    destinations = json.dumps([{"name": "web", "url": WEB}])
    done = said(tmp_path, *words, redis_url=REDIS, database_url=POSTGRES, destinations=destinations)
    assert done.returncode == 1
    assert "127.0.0.1" in done.stdout + done.stderr  # it did speak of the server
    assert SECRET not in done.stdout + done.stderr
    if "--debug" in words:
        assert "Traceback" in done.stderr


@pytest.mark.processes
@pytest.mark.parametrize(
    "settings",
    [
        {"destinations": f'[{{"name": "web", "url": "{WEB}", "prt": 1}}]'},
        {"destinations": f'[{{"name": "web", "url": "ftp://u:{SECRET}@h"}}]'},
        {"destinations": f'[{{"name": "web", "url": "{WEB}", "password": "{SECRET}"}}]'},
        {"destinations": f'[{{"name": "web", "url": "{WEB}",'},
        {"redis_url": f"http://u:{SECRET}@h"},
        {"redis_url": f"redis://u:{SECRET}/rest@h:6379"},  # the port would be the password
        {"port": SECRET},
        {"database_url": f"nonsense://u:{SECRET}@h/x"},
        {"database_url": f"worker:{SECRET}@h/x"},
    ],
)
def test_a_wrong_setting_is_named_and_not_quoted(tmp_path, settings):
    done = said(tmp_path, "--debug", "jobs", **settings)  # the traceback ends with the sentence
    assert done.returncode == 1
    assert f"VOXTELL_{next(iter(settings)).upper()}" in done.stderr or "not valid JSON" in done.stderr
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"no answer from {REDIS}; start it", "no answer from redis://***@127.0.0.1:1/0; start it"),
        (f"'{POSTGRES}' is wrong", "'postgresql+psycopg://***@127.0.0.1:1/ledger' is wrong"),
        ("redis://:p@ss/w:rd@h/0", "redis://***@h/0"),
        ("redis://h/0?password=pw&db=1", "redis://h/0?password=***&db=1"),
        (f"{REDIS} and {WEB}", "redis://***@127.0.0.1:1/0 and http://***@127.0.0.1:1/dicom-web"),
        ("sqlite:////home/a@b/ledger.sqlite", "sqlite:////home/a@b/ledger.sqlite"),
        ("https://pacs.example/dicom-web (AE@host:104)", "https://pacs.example/dicom-web (AE@host:104)"),
        (EXAMPLE_URL, EXAMPLE_URL),
        ("nobody@example", "nobody@example"),
    ],
)
def test_passwords_of_urls_are_masked_in_any_text(text, shown):
    assert masked(text) == shown
    assert str(BrokerError(text)) == shown


def test_settings_and_peers_show_no_password_however_they_are_printed(tmp_path):
    destination = WebDestination(name="web", url=WEB)
    settings = Settings(home=tmp_path, redis_url=REDIS, database_url=POSTGRES, destinations=(destination,))
    peer = destination.peer(settings)
    with_token = WebPeer("http://h", token=SECRET)
    for one in (settings, destination, peer, with_token, settings.redis_url, settings.ledger_url):
        assert SECRET not in f"{one} {one!r}"
    for one in (settings, destination):
        assert SECRET not in f"{one.model_dump()} {one.model_dump_json()}"
    assert (str(settings.redis_url), settings.redis_url.get_secret_value()) == ("redis://***@127.0.0.1:1/0", REDIS)
    assert (peer.url, peer.user, peer.password) == ("http://127.0.0.1:1/dicom-web", "sender", SECRET)
    assert str(SecretUrl("redis://h:1/0")) == "redis://h:1/0"
    assert str(SecretUrl("redis://u:with blank@h")) == "redis://***@h"


def test_the_user_of_a_url_is_decoded_and_stands_beside_no_token(tmp_path):
    coded = WebDestination(name="web", url="http://an%40b:c%2Fd@h/web")
    peer = coded.peer(Settings(home=tmp_path))
    assert (peer.url, peer.user, peer.password) == ("http://h/web", "an@b", "c/d")
    with pytest.raises(SettingsError, match="not both"):
        load(home=tmp_path, destinations=[{"name": "web", "url": WEB, "token_file": tmp_path / "token"}])


def test_a_reason_in_the_ledger_holds_no_password(ledger: Ledger):
    asked = VolumeFindings("", (Finding("an answer", f"of {WEB}", False),))
    ledger.series.decide("1.2", "1.2.3", "liver", [asked])
    (decision,) = ledger.series.decisions_on("1.2")
    assert decision.reason == "an answer: no, it is of http://***@127.0.0.1:1/dicom-web"


LINES = f"""
import logging
from worker import logs
from worker.settings import Settings

logs.configure(Settings(log_format="json"), "test")
logs.get_logger().warning("queue_unreachable", problem="{REDIS}")
logging.getLogger("kombu").warning("Cannot connect to %s", "{REDIS}")
logging.getLogger("dicom_node.x").warning("refused", extra={{"problem": "{WEB}"}})
try:
    raise ValueError("{POSTGRES}")
except ValueError:
    logs.get_logger().exception("unexpected_error")
    logging.getLogger("celery").exception("failed")
"""


@pytest.mark.processes
def test_a_line_of_the_log_holds_no_password():
    done = subprocess.run([sys.executable, "-c", LINES], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert len(lines) == 5
    assert SECRET not in done.stderr + done.stdout
    assert lines[0]["problem"] == "redis://***@127.0.0.1:1/0"
    assert "postgresql+psycopg://***@" in lines[3]["exception"]
