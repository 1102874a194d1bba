"""The images and the compose file, as far as they can be judged without a container engine."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from worker.errors import SettingsError
from worker.settings import PREFIX, Settings, load

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
ROLES = ("listener", "segment-worker", "deliver-worker")
FIXED_INSIDE = {"VOXTELL_HOME": "/var/lib/voxtell", "VOXTELL_HOST": "0.0.0.0", "VOXTELL_PORT": "11112"}
GUIDE = ROOT / "docs" / "how-to" / "containers.md"


def compose(*arguments: str, **environment: str) -> dict:
    """What `docker compose config` makes of the file; needs no running Docker."""
    ours = (PREFIX, "COMPOSE_", "NODE_", "SETTINGS_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    command = [PROGRAMS / "docker-compose", *arguments, "config", "--format", "json"]
    done = subprocess.run(
        command, cwd=ROOT, env=clean | environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr.lower(), done.stderr
    return json.loads(done.stdout)


@pytest.mark.peers
@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_has_nothing_to_say(path):
    done = subprocess.run([PROGRAMS / "hadolint", path], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_runs_as_nobody_in_particular_with_tested_versions(path):
    text = path.read_text()
    assert "USER 10001:10001" in text
    installs = [line for line in text.splitlines() if "pip install" in line]
    assert installs
    assert all("--constraint constraints.txt" in line for line in installs)


def is_healthy(**environment: str) -> bool:
    """What the node image's check says, run as in the image."""
    text = (ROOT / "docker" / "node.Dockerfile").read_text()
    (line,) = [line.strip() for line in text.splitlines() if line.strip().startswith("CMD [") and "listen" not in line]
    program, *arguments = json.loads(line.removeprefix("CMD "))
    assert program == "python"
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, timeout=60, check=False)
    return done.returncode == 0


@pytest.mark.processes
def test_the_node_is_healthy_when_its_port_can_be_connected_to():
    """Whatever it asks of its peers: nothing is said on the connection."""
    with socket.create_server(("0.0.0.0", 0)) as listening:  # the image's VOXTELL_HOST
        listening.settimeout(20)
        port = str(listening.getsockname()[1])
        assert is_healthy(VOXTELL_HOST="0.0.0.0", VOXTELL_PORT=port)
        connection, _ = listening.accept()
        with connection:
            assert connection.recv(1) == b""
    assert not is_healthy(VOXTELL_HOST="0.0.0.0", VOXTELL_PORT=port)


def test_the_node_image_is_installed_without_the_engine():
    assert "'.[postgres]'" in (ROOT / "docker" / "node.Dockerfile").read_text()
    assert "'.[gpu,postgres]'" in (ROOT / "docker" / "gpu.Dockerfile").read_text()


@pytest.mark.processes
def test_what_the_build_context_keeps_is_enough_to_install(tmp_path):
    """Builds the wheel from what .dockerignore lets through, and looks for the files that are no Python."""
    context = tmp_path / "context"
    context.mkdir()
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line.startswith("!"):
            kept = ROOT / line[1:]
            copy = shutil.copytree if kept.is_dir() else shutil.copy
            copy(kept, context / line[1:])
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        tmp_path,
        context,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "worker/protocols/shipped/head-and-neck-oar.yaml",
        "worker/ledger/migrations/env.py",
        "worker/ledger/migrations/versions/0001_series_jobs_deliveries.py",
        "dicom_node/regions.toml",
        "voxtell/py.typed",
    } <= names
    licences = {name.rpartition("/")[2] for name in names if ".dist-info/licenses/" in name}
    assert licences == {"LICENSE", "NOTICE"}


@pytest.mark.peers
def test_the_compose_file_has_one_container_per_role():
    services = compose()["services"]
    assert set(services) == {"redis", "listener", "segment-worker", "deliver-worker"}
    assert services["listener"]["command"] == ["listen"]
    assert services["segment-worker"]["build"]["dockerfile"] == "docker/gpu.Dockerfile"
    assert services["deliver-worker"]["image"] == services["listener"]["image"]
    for name in ROLES:
        assert [volume["target"] for volume in services[name]["volumes"]] == ["/var/lib/voxtell"]
        assert services[name]["depends_on"]["redis"]["condition"] == "service_healthy"


@pytest.mark.peers
def test_the_queue_writes_nothing_and_is_not_published():
    """The ledger fills it again; one that wrote to a disk would refuse all work when that is full."""
    redis = compose()["services"]["redis"]
    assert redis["command"][1:] == ["--appendonly", "no", "--save", "", "--requirepass", ""]
    assert "volumes" not in redis
    assert "ports" not in redis


@pytest.mark.peers
def test_a_password_for_the_queue_reaches_the_server_and_every_role():
    services = compose(QUEUE_PASSWORD="s3cret")["services"]
    assert services["redis"]["command"][-2:] == ["--requirepass", "s3cret"]
    assert services["redis"]["environment"]["REDISCLI_AUTH"] == "s3cret"
    for name in ROLES:
        assert services[name]["environment"]["VOXTELL_REDIS_URL"] == "redis://:s3cret@redis:6379/0"


@pytest.mark.peers
def test_nothing_listens_beyond_this_machine_unless_asked_for():
    for arguments, address in (((), "127.0.0.1"), (("--env-file", "docker/demo.env"), "127.0.0.1")):
        services = compose(*arguments)["services"].values()
        assert {port["host_ip"] for service in services for port in service.get("ports", ())} == {address}
    (port,) = compose(NODE_ADDRESS="10.1.0.7", NODE_PORT="104")["services"]["listener"]["ports"]
    assert (port["host_ip"], port["published"], port["target"]) == ("10.1.0.7", "104", 11112)


@pytest.mark.peers
def test_every_setting_reaches_every_role():
    passed_on = {PREFIX + name.upper() for name in Settings.model_fields}
    given = {"VOXTELL_QUIET_SECONDS": "7", "VOXTELL_PROTOCOLS": "/etc/p", "VOXTELL_LOG_FORMAT": "text"}
    services = compose(**given)["services"]
    for name in ROLES:
        environment = services[name]["environment"]
        # TZ: by it the windows of protocols are told
        assert set(environment) == passed_on | {"TZ", "HF_HUB_OFFLINE"}
        assert environment | given | FIXED_INSIDE == environment
        assert environment["VOXTELL_REDIS_URL"] == "redis://redis:6379/0"


@pytest.mark.peers
def test_a_misspelt_variable_in_the_settings_file_stops_the_start(tmp_path, monkeypatch):
    """And what the file says of paths and port inside changes nothing."""
    file = tmp_path / "settings.env"
    lines = ("VOXTELL_QUITE_SECONDS=7", "VOXTELL_AE_TITLE=SITE", "VOXTELL_HOME=/home/me", "VOXTELL_PORT=104")
    file.write_text("\n".join((f"SETTINGS_FILE={file}", *lines)))  # as docker/demo.env; .env names itself
    for name in ROLES:
        environment = compose("--env-file", str(file))["services"][name]["environment"]
        assert environment | FIXED_INSIDE == environment
        with monkeypatch.context() as inside:
            for variable, value in environment.items():
                if value is not None:
                    inside.setenv(variable, value)
            with pytest.raises(SettingsError, match=r"^VOXTELL_QUITE_SECONDS is no .*; did you mean VOXTELL_QUIET_"):
                load()
            inside.delenv("VOXTELL_QUITE_SECONDS")
            assert load().ae_title == "SITE"
    shell = compose("--env-file", str(file), VOXTELL_AE_TITLE="SHELL")["services"]["listener"]["environment"]
    assert shell["VOXTELL_AE_TITLE"] == "SHELL"


@pytest.mark.peers
def test_what_the_guide_has_people_add_is_taken(tmp_path):
    snippets = re.findall(r"^```yml\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(snippets) == 3
    mounts = set()
    for number, snippet in enumerate(snippets):
        file = tmp_path / f"{number}.yaml"
        file.write_text(snippet)
        services = compose("-f", "compose.yaml", "-f", str(file))["services"]
        for name in ROLES if "volumes" in snippet else ():
            mounts |= {volume["target"] for volume in services[name]["volumes"]}
    assert mounts == {
        *("/var/lib/voxtell", "/var/lib/voxtell/models"),
        *("/etc/voxtell/protocols", "/etc/voxtell/certificates"),
    }
    settings = re.findall(r"^(VOXTELL_\w+)=", GUIDE.read_text(), re.MULTILINE)
    assert {name.removeprefix(PREFIX).lower() for name in settings} <= set(Settings.model_fields)


@pytest.mark.peers
def test_the_image_for_cpus_has_no_library_of_nvidia():
    """The build itself fails where a dependency brings one; uv knows where torch's builds for CPUs are."""
    plain = compose()["services"]["segment-worker"]
    assert (plain["image"], plain["build"]["args"]) == ("voxtell-dicom-cpu", {"TORCH": "cpu"})
    text = (ROOT / "docker" / "gpu.Dockerfile").read_text()
    assert "--torch-backend=cpu" in text
    assert "site-packages/nvidia" in text


@pytest.mark.peers
def test_a_gpu_is_reserved_when_asked_for():
    plain = compose()["services"]["segment-worker"]
    assert "resources" not in plain.get("deploy", {})
    reserved = compose("-f", "compose.yaml", "-f", "docker/gpu.yaml")["services"]["segment-worker"]
    assert (reserved["image"], reserved["build"]["args"]) == ("voxtell-dicom-gpu", {"TORCH": "cuda"})
    (device,) = reserved["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])


@pytest.mark.peers
def test_the_demonstration_sends_results_to_its_orthanc(monkeypatch):
    services = compose("--env-file", "docker/demo.env")["services"]
    monkeypatch.setenv("VOXTELL_DESTINATIONS", services["deliver-worker"]["environment"]["VOXTELL_DESTINATIONS"])
    (destination,) = Settings().destinations
    assert destination.host in services
    assert destination.ae_title == services["orthanc"]["environment"]["ORTHANC__DICOM_AET"]
    assert services["orthanc"]["ports"][0]["target"] == destination.port


@pytest.mark.peers
def test_the_demonstration_sends_a_study_to_its_listener():
    services = compose("--env-file", "docker/demo.env")["services"]
    sender = services["demo-study"]
    assert sender["command"][:3] == ["demo", "--send-to", "VOXTELL@listener:11112"]
    assert sender["depends_on"]["listener"]["condition"] == "service_healthy"
    assert sender["image"] == services["segment-worker"]["image"], "the phantom comes with the engine"
    titled = compose("--env-file", "docker/demo.env", VOXTELL_AE_TITLE="SITE")["services"]["demo-study"]
    assert titled["command"][2] == "SITE@listener:11112"
    assert "demo-study" not in compose()["services"]


def test_images_are_named_without_a_registry_host():
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"].values()
    bases = [
        line.split()[1] for path in DOCKERFILES for line in path.read_text().splitlines() if line.startswith("FROM")
    ]
    for image in [service["image"] for service in services if "image" in service] + bases:
        first, *_ = image.split("/")
        assert "." not in first.split(":")[0], image
