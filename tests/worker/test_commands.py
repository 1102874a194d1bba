"""The command line as people meet it: one sentence when something is missing, and the exit codes of the contract."""

import json
import shutil
import socket
from pathlib import Path

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from dicom_node.synthesis import ct_series
from tests.support.command_line import sentence, voxtell_dicom
from tests.support.models import write_random_model
from worker.__main__ import app
from worker.errors import SettingsError
from worker.maintenance.leader_lock import Leadership

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model(tmp_path_factory.mktemp("models") / "random")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CT of 12 slices with a ball of bone in water."""
    folder = tmp_path_factory.mktemp("study")
    s, a, r = np.ogrid[:12, :32, :32]
    image = np.where((s - 6) ** 2 + (a - 16) ** 2 + (r - 16) ** 2 < 25, 700.0, 0.0)
    ct_series(image, (3.0, 2.0, 2.0), folder)
    return folder


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    done = voxtell_dicom("run", tmp_path / "nowhere", "-p", "liver", "-o", tmp_path / "out", home=tmp_path)
    assert "nowhere is not a folder that can be read" in sentence(done)


def test_a_folder_without_dicom(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("dear colleague")
    done = voxtell_dicom("run", tmp_path / "letters", "-p", "liver", "-o", tmp_path / "out", home=tmp_path)
    assert "holds no DICOM series" in sentence(done)


def test_a_model_that_is_not_there(tmp_path: Path, study: Path) -> None:
    done = voxtell_dicom("run", study, "-p", "liver", "-o", tmp_path / "out", home=tmp_path, model=tmp_path / "none")
    assert str(tmp_path / "none") in sentence(done)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path, study: Path, model: Path) -> None:
    nowhere = Path("/proc/no-such-folder")  # not even root makes one there
    outputs = ("run", study, "-p", "liver", "-o", nowhere), ("volume", study, "-o", nowhere / "volume.nii.gz")
    said = [sentence(voxtell_dicom(*words, home=tmp_path, model=model)) for words in outputs]
    said.append(sentence(voxtell_dicom("listen", home=nowhere)))
    reason = "No such file or directory; check that it exists and may be written"
    assert said == [f"voxtell-dicom: {nowhere}: {reason}"] * 3


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = voxtell_dicom("listen", home=tmp_path, port=port)
    assert f"{port}" in sentence(done)
    assert "use" in sentence(done)


def test_up_with_a_port_in_use_ends_and_says_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = voxtell_dicom("up", home=tmp_path, port=port)
    assert done.returncode == 1
    assert f"{port}" in done.stderr
    assert "listen ended at once" in done.stderr


def test_a_pacs_that_is_down(tmp_path: Path, free_port: int) -> None:
    done = voxtell_dicom("echo", f"PACS@127.0.0.1:{free_port}", home=tmp_path)
    assert "nothing listens there" in sentence(done)


def test_doctor_names_what_is_not_in_place_and_what_is(tmp_path: Path, free_port: int, model: Path) -> None:
    done = voxtell_dicom("doctor", "--json", home=tmp_path, port=free_port, model=model, min_free_bytes=0)
    assert done.returncode == 1
    checks = {check["check"]: check for check in json.loads(done.stdout)}
    assert [name for name, check in checks.items() if not check["ok"]] == ["listener", "workers"]
    assert checks["listener"]["message"].startswith(
        f"no listener works on {tmp_path}: start the node with `voxtell-dicom up`, or `voxtell-dicom listen` alone ("
    )
    assert "nothing listens there" in checks["listener"]["message"]
    assert checks["workers"]["message"] == (
        f"no segment-worker and no deliver-worker works on {tmp_path}: jobs wait; `voxtell-dicom up` starts all, "
        "`voxtell-dicom segment-worker` one alone"
    )
    assert "head-and-neck-oar" in checks["protocols"]["message"]
    assert "random" in checks["engine"]["message"]


def test_verify_says_that_the_self_test_was_run(tmp_path: Path, model: Path) -> None:
    done = voxtell_dicom("model", "verify", model, home=tmp_path)
    assert done.returncode == 0, done.stderr
    *files, last = done.stdout.splitlines()
    assert len(files) == 2
    assert all(line.startswith("ok  ") and "sha256:" in line for line in files)
    assert last == "ok  self-test"
    assert "no digests travel with this model, so the ones above were compared with nothing" in done.stderr


def test_digests_are_written_once_and_then_travel_with_a_copy(tmp_path: Path, model: Path) -> None:
    copy = shutil.copytree(model, tmp_path / "copy")
    done = voxtell_dicom("model", "verify", copy, "--record", home=tmp_path)
    assert done.stdout.splitlines()[-1] == f"wrote {copy / 'fetched.json'}; copy it with the model"
    assert voxtell_dicom("model", "verify", copy, home=tmp_path).stderr == ""
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert "model.safetensors has sha256:" in sentence(voxtell_dicom("model", "verify", copy, home=tmp_path))


def test_a_misspelt_setting_stops_the_start(tmp_path: Path) -> None:
    done = voxtell_dicom("jobs", home=tmp_path, ae_titel="X")
    assert "did you mean VOXTELL_AE_TITLE?" in sentence(done)


def test_a_job_that_is_not_there(tmp_path: Path) -> None:
    assert "no job with id 'abc'" in sentence(voxtell_dicom("jobs", "show", "abc", home=tmp_path))


def test_a_protocol_that_is_not_valid(tmp_path: Path, study: Path) -> None:
    protocol = tmp_path / "bad.yaml"
    protocol.write_text("name: bad\nmatch:\n  Modalty: CT\nprompts: [liver]\n")
    done = voxtell_dicom("run", study, "--protocol", protocol, "-o", tmp_path / "out", home=tmp_path)
    assert "bad.yaml, line" in sentence(done)
    assert "did you mean Modality?" in sentence(done)


def test_words_that_make_no_command_are_usage(tmp_path: Path) -> None:
    assert voxtell_dicom("segment-everything", home=tmp_path).returncode == 2
    assert voxtell_dicom("run", home=tmp_path).returncode == 2
    assert voxtell_dicom("run", tmp_path, "-o", tmp_path / "out", home=tmp_path).returncode == 2
    assert voxtell_dicom("jobs", "--state", "lost", home=tmp_path).returncode == 2


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("run", ".", "-p", "liver", "--protocol", "a.yaml", "-o", "out"), 2, "prompts (-p) exclude a report and a"),
        (("run", ".", "-p", "liver", "--report", "a.txt", "-o", "out"), 2, "prompts (-p) exclude a report and a"),
        (("run", ".", "-o", "out"), 2, "give prompts (-p TEXT, may be repeated), a report"),
        (("report", "prompts", "."), 2, ". is a folder; name the files of reports"),
        (("echo", "ARCHIVE_OF_HOSPITAL@127.0.0.1:4242"), 2, "is no AE title: it has 1 to 16 characters of ASCII"),
        (("echo", "ARCHIVE@127.0.0.1"), 2, "is no peer; write AE@HOST:PORT"),
        (("echo", "127.0.0.1:104"), 2, "is no peer; write AE@HOST:PORT"),
        (("echo", ""), 2, "is no peer; write AE@HOST:PORT"),
        (("echo", "@127.0.0.1:104"), 2, "is no peer; write AE@HOST:PORT"),
        (("echo", "PACS@127.0.0.1:0"), 2, "a port is a number from 1 to 65535"),
        (("echo", "PACS@127.0.0.1:70000"), 2, "a port is a number from 1 to 65535"),
        (("echo", "PACS@127.0.0.1:-1"), 2, "is no peer; write AE@HOST:PORT"),
        (("echo", "PACS@[::1:104"), 2, "is no peer; write AE@HOST:PORT"),
        (("echo", "PACS@::1]:104"), 2, "is no peer; write AE@HOST:PORT"),
        (("echo", "PACS@[]:104"), 2, "is no peer; write AE@HOST:PORT"),
        (("echo", "PACS@[pacs.hospital]:104"), 2, "is no peer; write AE@HOST:PORT"),
        (("echo", "PACS@[::1]"), 2, "is no peer; write AE@HOST:PORT"),
        (("echo", "PACS@::1:104"), 2, "is no peer; write AE@HOST:PORT"),
        (("echo", "A\\B@127.0.0.1:104"), 2, "is no AE title"),
        (("echo", "M\u00dcNCHEN@127.0.0.1:104"), 2, "is no AE title"),
        (("echo", "   @127.0.0.1:104"), 2, "is no AE title"),
        (("echo", "pasc"), 1, "destination 'pasc' is not in VOXTELL_DESTINATIONS (none is set)"),
    ],
)
def test_what_is_said_of_wrong_words_is_what_is_wrong(words: tuple[str, ...], code: int, said: str) -> None:
    done = CliRunner().invoke(app, words)
    lines = done.stderr.replace("│", "") or str(done.exception)  # typer draws a frame around what main says in a line
    assert said in " ".join(lines.split())
    assert (done.exit_code, isinstance(done.exception, SettingsError)) == (code, code == 1)


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = voxtell_dicom("--debug", "jobs", "show", "abc", home=tmp_path)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_run_writes_what_it_says(tmp_path: Path, study: Path, model: Path) -> None:
    out = tmp_path / "out"
    outputs = ("--seg", "--rtstruct", "--sr", "--preview", "--nifti")
    done = voxtell_dicom("run", study, "-p", "left kidney", "-o", out, *outputs, "--json", home=tmp_path, model=model)
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)
    again = voxtell_dicom("run", study, "-p", "liver", "-o", out, home=tmp_path, model=model)
    assert again.returncode == 2, "the files of two results would lie in one folder"
    assert f"{out} holds the result of an earlier run" in again.stderr
    assert [found["label"] for found in result["found"]] == ["left kidney"]
    assert sorted(map(Path, result["files"])) == [
        out / name for name in ("left_kidney.nii.gz", "preview.dcm", "rtstruct.dcm", "seg.dcm", "sr.dcm")
    ]
    assert all(Path(file).exists() for file in result["files"])
    mask = np.asarray(nibabel.load(out / "left_kidney.nii.gz").dataobj)
    voxel_ml = 3.0 * 2.0 * 2.0 / 1000
    assert np.count_nonzero(mask) * voxel_ml == pytest.approx(result["found"][0]["volume_ml"], abs=1e-3)


def test_run_takes_its_prompts_from_a_report_and_keeps_the_sentence(tmp_path: Path, study: Path, model: Path) -> None:
    report = tmp_path / "report.txt"
    report.write_text("FINDINGS: 8 mm solid nodule in the right upper lobe. No pleural effusion.")
    done = voxtell_dicom(
        "run", study, "--report", report, "-o", tmp_path / "out", "--nifti", "--json", home=tmp_path, model=model
    )
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)
    asked = [found["label"] for found in result["found"]] + result["not_found"]
    assert asked == ["solid nodule in the right upper lobe"]
    assert all("8 mm solid nodule" in found["sentence"] for found in result["found"])


def test_a_report_without_findings_says_what_was_left_out(tmp_path: Path, study: Path) -> None:
    report = tmp_path / "report.txt"
    report.write_text("FINDINGS: No pleural effusion.")
    done = voxtell_dicom("run", study, "--report", report, "-o", tmp_path / "out", home=tmp_path)
    assert "pleural effusion (negated)" in sentence(done)


def test_run_leaves_out_what_is_no_volume_and_says_why(tmp_path: Path, study: Path, model: Path) -> None:
    one = tmp_path / "one"
    one.mkdir()
    first = sorted(study.iterdir())[0]
    (one / first.name).write_bytes(first.read_bytes())
    done = voxtell_dicom("run", one, "-p", "liver", "-o", tmp_path / "out", home=tmp_path, model=model)
    assert "a single slice is no volume" in sentence(done)


def test_volume_is_what_the_network_sees(tmp_path: Path, study: Path) -> None:
    out = tmp_path / "volume.nii.gz"
    done = voxtell_dicom("volume", study, "-o", out, home=tmp_path)
    assert done.returncode == 0, done.stderr
    image = nibabel.load(out)
    assert nibabel.aff2axcodes(image.affine) == ("R", "A", "S")
    values = np.asarray(image.dataobj)
    assert values.shape == (32, 32, 12)
    assert values[16, 16, 6] == 700.0


def test_ledger_rebuild_finds_the_series_of_the_store(tmp_path: Path, study: Path) -> None:
    folder = tmp_path / "studies" / "1.2.3" / "1.2.3.4"
    folder.mkdir(parents=True)
    for index, path in enumerate(sorted(study.iterdir())):
        (folder / f"1.2.3.4.{index}.dcm").write_bytes(path.read_bytes())
    done = voxtell_dicom("ledger", "rebuild", home=tmp_path)
    assert "1 series in the store, 1 of them were not in the ledger" in done.stdout
    again = voxtell_dicom("ledger", "rebuild", home=tmp_path)
    assert "0 of them were not in the ledger" in again.stdout


def test_ledger_rebuild_wants_the_listener_stopped(tmp_path: Path) -> None:
    with Leadership(tmp_path) as listener:
        assert listener.held()
        assert f"a listener is at work on {tmp_path}; stop it" in sentence(
            voxtell_dicom("ledger", "rebuild", home=tmp_path)
        )
    assert voxtell_dicom("ledger", "rebuild", home=tmp_path).returncode == 0
