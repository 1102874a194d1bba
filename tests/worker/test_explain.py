"""Why a study was segmented or was not: asked of a folder, of a real PACS's list, and of the node's own ledger."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydicom import dcmread
from pydicom.uid import EnhancedMRImageStorage
from typer.testing import CliRunner

from dicom_node.scu.association import Peer
from dicom_node.scu.c_store import send
from dicom_node.synthesis import Subject, ct_series
from tests.support.command_line import sentence, voxtell_dicom
from tests.support.instances import small_instance
from tests.support.listening import QUIET, IntakeSite
from tests.support.peers import orthanc, program, running, wait_for_peer
from tests.support.ports import free_port
from worker.cli.protocols import app
from worker.errors import SettingsError
from worker.explain.dry_run import Explained, explain_folder, of_folder, of_pacs, studies
from worker.explain.history import history_of
from worker.ledger import DeliveryState
from worker.protocols import Protocol
from worker.queue.embedded_server import running_queue
from worker.result import Result
from worker.selection.study_volumes import FolderError
from worker.settings import Settings

PACS = {"name": "pacs", "ae_title": "PACS", "host": "pacs", "port": 104}


def protocol(name: str = "thorax", **fields: object) -> Protocol:
    given = {"match": {"Modality": "CT", "Instances": {"min": 3}}, "prompts": ["heart"]} | fields
    return Protocol.model_validate({"name": name} | given)


def ct(folder: Path, slices: int, description: str, seed: int = 0, spacing: float = 3.0) -> list[Path]:
    subject = Subject(series_description=description, series_number=seed + 1)
    image = np.zeros((slices, 8, 8), np.float32)
    return ct_series(image, (spacing, 1.0, 1.0), folder / description, subject=subject, seed=seed)


def told(answers: list[Explained]) -> dict[tuple[str, str], tuple[bool | None, dict[str, bool | None]]]:
    """By series (words of it) and protocol: the answer, and that to each condition."""
    return {
        (one.description.split("(")[1].split(")")[0], one.protocol): (
            one.taken,
            {finding.condition: finding.holds for finding in one.conditions},
        )
        for one in answers
    }


# -- a folder


def test_a_folder_is_told_per_series_and_condition(tmp_path):
    ct(tmp_path, 4, "thin", seed=0)
    ct(tmp_path, 2, "short", seed=1)
    node = Settings(home=tmp_path / "home")
    published = protocol("abdomen", model="published")
    answers = told(of_folder(tmp_path, [protocol(), published], node))
    taken, conditions = answers["thin", "thorax"]
    assert taken
    assert set(conditions.values()) == {True}
    taken, conditions = answers["short", "thorax"]
    assert not taken
    assert conditions["Instances min 3.0"] is False
    taken, conditions = answers["thin", "abdomen"]
    assert not taken
    assert conditions["an active protocol"] is False


def test_a_protocol_that_lives_from_reports_may_take_a_folder(tmp_path):
    ct(tmp_path, 4, "thin")
    node = Settings(home=tmp_path / "home")
    lesions = protocol("lesions", prompts=[], report={"use": True})
    both = protocol("both", report={"use": True})
    answers = told(of_folder(tmp_path, [lesions, both], node))
    assert answers["thin", "lesions"][0] is None
    assert answers["thin", "lesions"][1]["a report of the study with findings"] is None
    assert answers["thin", "both"][0], "its own prompts are reason enough"


@pytest.mark.processes
def test_json_is_all_that_stands_on_standard_output(tmp_path):
    ct(tmp_path / "study", 4, "thin")
    (tmp_path / "study" / "letter.txt").write_text("no image")
    done = voxtell_dicom("protocols", "explain", tmp_path / "study", "--json", home=tmp_path)
    (study,) = json.loads(done.stdout)
    names = {one["protocol"] for one in study["series"][0]["decisions"]}
    assert names >= {"head-and-neck-oar", "lesions-by-report"}
    assert study["hints"] == [
        "letter.txt is not a readable DICOM file: it does not begin like one (PS3.10); it is left out"
    ]


def test_what_is_left_out_of_a_folder_is_named(tmp_path):
    images = ct(tmp_path, 4, "thin")
    (tmp_path / "thin" / "cut.dcm").write_bytes(images[0].read_bytes()[:300])
    node = Settings(home=tmp_path / "home")
    (study,) = studies(*explain_folder(tmp_path, [protocol()], node))
    assert study.hints == ("cut.dcm names no series or no instance: it is a DICOMDIR, or was cut off; it is left out",)
    for number in range(9):
        (tmp_path / "thin" / f"{number}.txt").write_text("no image")
    (study,) = studies(*explain_folder(tmp_path, [protocol()], node))
    assert (len(study.hints), study.hints[-1]) == (6, "5 more files are left out")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("no image")
    with pytest.raises(FolderError, match=r"holds no DICOM series \(letter\.txt is not a readable DICOM file"):
        explain_folder(tmp_path / "other", [protocol()], node)


def test_a_protocol_says_in_one_line_why(tmp_path):
    ct(tmp_path, 4, "thin", seed=0)
    ct(tmp_path, 2, "short", seed=1)
    known = [
        protocol(),
        protocol("lesions", prompts=[], report={"use": True}),
        protocol("mr", match={"Modality": "MR"}),
    ]
    told = studies(*explain_folder(tmp_path, known, Settings(home=tmp_path / "home")))
    assert {study.summary for study in told} == {
        "1 series: thorax would take it; lesions may take it",
        "1 series: no protocol takes it",
    }
    series = [one for study in told for one in study.series]
    said = {one.description: [answer.sentence for answer in one.decisions] for one in series}
    assert said == {
        "series 1 (thin)": [
            "thorax takes it: 4 slices, 3.00 mm apart, axial",
            "lesions may take it: it depends on a report of the study with findings",
            "mr does not take it: Modality is CT, not MR",
        ],
        "series 2 (short)": [
            "thorax does not take it: it has 2 images, and at least 3 are asked for",
            "lesions does not take it: it has 2 images, and at least 3 are asked for",
            "mr does not take it: Modality is CT, not MR",
        ],
    }


def many(folder: Path, home: Path) -> None:
    """Five studies of five patients, and a protocol that takes two of them."""
    for number in range(5):
        subject = Subject(
            patient_id=f"P{number}", patient_name="Doe^Jane", accession_number=f"A{number}", series_number=number
        )
        ct_series(np.zeros((2 + number % 2, 8, 8)), (3.0, 1.0, 1.0), folder / str(number), subject=subject, seed=number)
    (home / "protocols").mkdir(parents=True)
    text = {"name": "thorax", "match": {"Modality": "CT", "Instances": {"min": 3}}, "prompts": ["heart"]}
    (home / "protocols" / "a.yaml").write_text(yaml.safe_dump(text))


def test_many_studies_are_a_table_and_details_stand_behind_v(tmp_path, monkeypatch):
    many(tmp_path / "studies", tmp_path / "home")
    monkeypatch.setenv("VOXTELL_HOME", str(tmp_path / "home"))
    lines = CliRunner().invoke(app, ["explain", str(tmp_path / "studies")]).output.splitlines()
    assert len(lines) == 1 + 5 + 2
    assert lines[0].split("  ")[0] == "study"
    taken = [line for line in lines[1:6] if "thorax" in line]
    assert len(taken) == 2
    assert all(re.search(r"2026-01-01  Doe\^Jane \(P[13]\) .* 3 +thorax", line) for line in taken)
    assert sum("it has 2 images, and at least 3 are asked for" in line for line in lines) == 3
    assert lines[-2:] == ["-v tells each study with every condition.", "thorax: of 5 series 2 taken, 3 not"]
    told = CliRunner().invoke(app, ["explain", str(tmp_path / "studies"), "-v"]).output.splitlines()
    assert sum(line.startswith("study 2.25.") for line in told) == 5
    assert told.count("    - Instances min 3.0: it is 2") == 3
    few = CliRunner().invoke(app, ["explain", str(tmp_path / "studies" / "1")]).output.splitlines()
    assert few[0].endswith(", Doe^Jane (P1), A1, 2026-01-01, Synthetic CT")
    assert few[1:] == [
        "1 series: thorax would take it.",
        few[2],
        "  thorax takes it: 3 slices, 3.00 mm apart, axial",
        "-v shows every condition with what was there.",
    ]


def test_who_sends_is_not_known_of_a_folder(tmp_path):
    ct(tmp_path, 4, "thin")
    sender = protocol("sender", match={"Modality": "CT", "CallingAE": "SCANNER"})
    other = protocol("other", match={"Modality": "MR", "CallingAE": "SCANNER"})
    answers = told(of_folder(tmp_path, [sender, other], Settings(home=tmp_path / "home")))
    assert answers["thin", "sender"][0] is None
    assert answers["thin", "other"][0] is False


# -- what a PACS lists


@pytest.fixture(scope="module")
def pacs(tmp_path_factory):
    """An Orthanc with a CT study of two series and, a month later, an MR study with one enhanced object."""
    folder = tmp_path_factory.mktemp("pacs")
    first = {"StudyInstanceUID": "1.2.8", "PatientID": "P1", "StudyDate": "20260110", "StudyDescription": "Thorax"}
    first |= {"Modality": "CT", "BodyPartExamined": "CHEST", "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"]}
    second = {"StudyInstanceUID": "1.2.9", "PatientID": "P2", "StudyDate": "20260220", "Modality": "MR"}
    made = [small_instance(n, series="1.2.8.1", SeriesDescription="thin", **first) for n in (1, 2, 3, 4)]
    made += [small_instance(n, series="1.2.8.2", SeriesDescription="short", **first) for n in (1, 2)]
    enhanced = {"sop_class": EnhancedMRImageStorage, "SeriesDescription": "head", "NumberOfFrames": "3"}
    made.append(small_instance(1, series="1.2.9.1", **second, **enhanced))
    paths = []
    for number, instance in enumerate(made):
        paths.append(folder / f"{number}.dcm")
        instance.save_as(paths[-1], enforce_file_format=True)
    with orthanc(folder / "orthanc") as running:
        assert {outcome.result for outcome in send(paths, running.peer, calling_ae="TEST")} == {"ok"}
        yield running


def asked(pacs, protocols: list[Protocol], **keys: str):
    node = Settings()
    return told([one for answers in of_pacs(pacs.peer, keys, protocols, node, pytest.fail) for one in answers])


@pytest.mark.peers
def test_a_pacs_tells_what_is_the_same_for_a_series(pacs):
    by_words = protocol(match={"Modality": "CT", "StudyDescription": "thorax", "SeriesDescription": {"regex": "thin"}})
    answers = asked(pacs, [protocol(), by_words])
    assert {key: taken for key, (taken, _) in answers.items()} == {
        ("thin", "thorax"): True,
        ("short", "thorax"): False,
        ("head", "thorax"): False,
    }
    conditions = asked(pacs, [by_words])["thin", "thorax"][1]
    assert conditions["StudyDescription equals 'thorax'"] is True


@pytest.mark.peers
def test_what_only_images_tell_is_not_guessed(pacs):
    """Orthanc would give the image type of one image if asked: what one image says is no answer for the series."""
    thin = protocol(match={"Modality": "CT", "ImageType": "AXIAL", "not": {"SliceThickness": {"min": 3}}})
    sender = protocol("sender", match={"Modality": "CT", "CallingAE": "SCANNER"})
    answers = asked(pacs, [thin, sender], ModalitiesInStudy="CT")
    taken, conditions = answers["thin", "thorax"]
    assert taken is None
    assert conditions == {
        "Modality equals 'CT'": True,
        "ImageType equals 'AXIAL'": None,
        "not SliceThickness min 3.0": None,
    }
    assert answers["thin", "sender"][0] is None
    mr = asked(pacs, [thin], ModalitiesInStudy="MR")["head", "thorax"]
    assert mr[0] is False, "what is known to fail settles it"


@pytest.mark.peers
def test_what_a_pacs_tells_of_other_series_is_absent_where_it_is_empty(pacs):
    """The CT study has a body part and no protocol name, the MR study neither."""
    part = protocol(match={"any": [{"BodyPartExamined": "CHEST"}, {"StudyDescription": {"regex": "thorax"}}]})
    name = protocol("name", match={"ProtocolName": "Thorax"})
    answers = asked(pacs, [part, name])
    assert answers["thin", "thorax"][0] is True
    assert answers["head", "thorax"][0] is False
    assert answers["head", "name"][0] is answers["thin", "name"][0] is None, "it may be that this PACS keeps none"


@pytest.mark.peers
def test_a_pacs_that_keeps_little_leaves_much_open(tmp_path):
    """DCMTK's archive leaves out what it does not keep: series descriptions, body parts, counts."""
    (tmp_path / "archive").mkdir()
    here = Peer("ARCHIVE", "127.0.0.1", free_port())
    (tmp_path / "dcmqrscp.cfg").write_text(
        f"NetworkTCPPort = {here.port}\nMaxPDUSize = 16384\nMaxAssociations = 4\n"
        "HostTable BEGIN\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nARCHIVE {tmp_path / 'archive'} RW (10, 64mb) ANY\nAETable END\n"
    )
    images = ct(tmp_path, 4, "thin")
    by_words = protocol(match={"Modality": "CT", "SeriesDescription": "thin", "Instances": {"min": 3}})
    other = protocol("other", match={"Modality": "MR", "SeriesDescription": "thin"})
    with running([program("dcmqrscp"), "-c", tmp_path / "dcmqrscp.cfg"]) as process:
        wait_for_peer(here, process)
        assert {outcome.result for outcome in send(images, here, calling_ae="TEST")} == {"ok"}
        ((first, second),) = of_pacs(here, {}, [by_words, other], Settings(), pytest.fail)
    assert [(finding.condition, finding.holds) for finding in first.conditions] == [
        ("Modality equals 'CT'", True),
        ("SeriesDescription equals 'thin'", None),
        ("Instances min 3.0", None),
    ]
    assert (first.taken, second.taken) == (None, False)


@pytest.mark.peers
def test_the_number_of_frames_is_not_known_where_objects_may_hold_many(pacs):
    head = protocol(match={"Modality": "MR", "Instances": {"min": 3}})
    assert asked(pacs, [head], StudyDate="20260201-20260228")["head", "thorax"][1] == {
        "Modality equals 'MR'": True,
        "Instances min 3.0": None,
    }


@pytest.mark.peers
def test_which_series_is_the_best_is_seen_in_the_images_only(pacs):
    best = protocol(match={"Modality": "CT"}, choose={"take": "best"})
    answers = asked(pacs, [best], PatientID="P1")
    assert answers["thin", "thorax"][0] is answers["short", "thorax"][0] is None
    assert answers["thin", "thorax"][1]["the best of 2"] is None


@pytest.mark.processes
def test_the_command_line_asks_a_pacs(pacs, tmp_path):
    (tmp_path / "protocols").mkdir()
    match = {"Modality": "CT", "ImageType": "AXIAL"}
    (tmp_path / "protocols" / "a.yaml").write_text(yaml.safe_dump({"name": "a", "match": match, "prompts": ["liver"]}))
    words = ("protocols", "explain", "--from-pacs", str(pacs.peer), "--date", "20260101-20260131")
    done = voxtell_dicom(*words, home=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "study 1.2.8, Test^Small (P1), 2026-01-10, Thorax"
    assert lines[1] == "2 series: a may take it."
    assert "series (thin), 4 images, 1.2.8.1" in lines
    assert "  a may take it: ImageType cannot be known before the images are here" in lines
    assert lines[-1] == "a: of 2 series 0 taken, 0 not, 2 not known before the images are here"
    (study,) = json.loads(voxtell_dicom(*words, "--modality", "CT", "--json", home=tmp_path).stdout)
    assert [(one["series_uid"], one["decisions"][0]["taken"]) for one in study["series"]] == [
        ("1.2.8.1", None),
        ("1.2.8.2", None),
    ]


@pytest.mark.peers
def test_the_command_line_says_where_the_pacs_cut_its_lists(tmp_path, monkeypatch):
    images = [small_instance(n, series=f"1.2.{n}.1", StudyInstanceUID=f"1.2.{n}", Modality="CT") for n in range(1, 6)]
    (tmp_path / "protocols").mkdir()
    match = {"name": "a", "match": {"Modality": "CT"}, "prompts": ["liver"]}
    (tmp_path / "protocols" / "a.yaml").write_text(yaml.safe_dump(match))
    for number, image in enumerate(images):
        image.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    monkeypatch.setenv("VOXTELL_HOME", str(tmp_path / "home"))
    with orthanc(tmp_path / "orthanc", LimitFindResults=3) as pacs:
        send(sorted(tmp_path.glob("*.dcm")), pacs.peer, calling_ae="TEST")
        words = ["explain", "--from-pacs", str(pacs.peer), "--protocols", str(tmp_path / "protocols"), "--json"]
        cut, whole = (CliRunner().invoke(app, [*words, *more]) for more in ([], ["--accession", "nobody"]))
    assert (cut.exit_code, len(json.loads(cut.stdout))) == (0, 3)
    assert cut.stderr.startswith(f"voxtell-dicom: {pacs.peer} cut its list after 3 studies: ")
    assert (whole.exit_code, whole.stderr) == (0, ""), "a whole list needs no word"


@pytest.mark.processes
def test_the_command_line_takes_one_source_and_says_when_a_pacs_is_down(tmp_path, free_port):
    assert voxtell_dicom("protocols", "explain", tmp_path, "--study", "1.2.3", home=tmp_path).returncode == 2
    done = voxtell_dicom("protocols", "explain", "--from-pacs", f"PACS@127.0.0.1:{free_port}", home=tmp_path)
    assert "nothing listens there" in sentence(done)


@pytest.mark.parametrize("date", ["last week", "2026-01-01", "20260231", "202601", "-", "20260101-20260131-"])
def test_a_date_that_is_none_is_usage(home, date):
    words = ["explain", "--from-pacs", "nobody", "--date", date]
    done = CliRunner().invoke(app, words, env={"VOXTELL_HOME": str(home)})
    assert done.exit_code == 2
    assert f"--date {date!r} is no day and no range; write 20260101, " in " ".join(done.output.replace("│", "").split())


@pytest.mark.parametrize("date", ["", "20260101", "20260101-20260131", "20260101-", "-20260131"])
def test_a_day_or_a_range_is_taken(home, date):
    words = ["explain", "--from-pacs", "nobody", "--date", date]
    done = CliRunner().invoke(app, words, env={"VOXTELL_HOME": str(home)})
    assert isinstance(done.exception, SettingsError), "the peer is looked for next"


# -- a study that the node knows


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home"
    (folder / "protocols").mkdir(parents=True)
    return folder


@pytest.fixture
def node(home):
    made = IntakeSite(home, destinations=(PACS,))
    with running_queue(made.settings):
        yield made
        made.close()


def put(node: IntakeSite, *protocols: Protocol) -> None:
    """These protocols, and no others, are in the node's folder."""
    for one in protocols:
        content = one.model_dump(mode="json", exclude_defaults=True)
        content["match"] = {name: dict(value) for name, value in content["match"]["attributes"].items()}
        (node.settings.protocols_folder / f"{one.name}.yaml").write_text(yaml.safe_dump(content))


def story(node: IntakeSite, study_uid: str, *protocols: Protocol):
    return history_of(study_uid, node.ledger, node.store, node.settings, protocols)


def study_of(path: Path) -> str:
    return str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)


@pytest.mark.peers
def test_nothing_of_the_study_ever_arrived(node, tmp_path):
    said = story(node, "1.2.3")
    assert said.summary == "nothing of study 1.2.3 has arrived at this node"
    assert "no image of any study has ever arrived" in said.hints
    assert any("port 11112, as AE title VOXTELL" in hint for hint in said.hints)
    images = ct(tmp_path, 4, "thin")
    node.receives(*images, ago=120)
    said = story(node, study_of(images[0])[:-3])
    assert f"the UID may be cut short: {study_of(images[0])} has arrived" in said.hints
    assert any("came 2 minutes ago from SCANNER at 127.0.0.1" in hint for hint in said.hints)


@pytest.mark.peers
def test_a_study_in_the_store_that_the_ledger_lost(node, tmp_path):
    (image, *_) = ct(tmp_path, 1, "thin")
    header = dcmread(image)
    uids = {"study_uid": header.StudyInstanceUID, "series_uid": header.SeriesInstanceUID}
    node.store.put(image.read_bytes(), sop_uid=header.SOPInstanceUID, **uids)
    said = story(node, header.StudyInstanceUID)
    assert said.hints[0] == (
        "its images are in the store but not in the ledger: stop the listener, run voxtell-dicom ledger rebuild, "
        "and start the listener again"
    )


@pytest.mark.peers
def test_a_study_that_still_arrives(node, tmp_path):
    images = ct(tmp_path, 4, "thin")
    node.receives(*images, ago=QUIET / 2)
    node.tick()
    said = story(node, study_of(images[0]))
    assert said.summary == "1 series arrived, 1 of them still arriving"
    assert "still arriving: the last image came 5 s ago" in said.series[0].sentence


@pytest.mark.peers
def test_a_study_that_no_protocol_took_says_what_was_there(node, tmp_path):
    wanted = protocol(match={"Modality": "CT", "BodyPartExamined": "CHEST"})
    inactive = protocol("abdomen", model="published")
    put(node, wanted, inactive)
    images = ct(tmp_path, 4, "thin")
    node.receives(*images, ago=QUIET + 1)
    assert node.tick() == []
    said = story(node, study_of(images[0]), wanted, inactive, protocol("newer"))
    assert said.summary == "1 series arrived; no protocol took one that is complete: the reasons stand below"
    (series,) = said.series
    reasons = {decision.protocol: decision.reason for decision in series.decisions}
    assert reasons["thorax"] == "BodyPartExamined equals 'CHEST': no, it is absent"
    assert "needs the published weights" in reasons["abdomen"]
    assert series.not_asked == ("newer",)
    assert any("protocol 'abdomen' is inactive" in hint for hint in said.hints)
    json.dumps(said.facts())


@pytest.mark.peers
def test_a_job_tells_where_it_stands(node, tmp_path):
    taking = protocol(match={"Modality": "CT"}, window=["22:00", "06:00"])
    put(node, taking)
    images = ct(tmp_path, 4, "thin")
    node.receives(*images, ago=QUIET + 1)
    (job,) = node.tick()
    said = story(node, study_of(images[0]), taking)
    assert said.summary == "1 series arrived; 1 job: 1 queued"
    assert said.series[0].jobs[0].sentence.startswith(f"job {job.id} is queued")
    assert "between 22:00 and 06:00 only" in said.series[0].jobs[0].sentence


@pytest.mark.peers
def test_a_delivery_that_failed_is_told_with_its_reason(node, tmp_path):
    taking = protocol(match={"Modality": "CT"})
    put(node, taking)
    images = ct(tmp_path, 4, "thin")
    node.receives(*images, ago=QUIET + 1)
    (job,) = node.tick()
    claimed = node.ledger.jobs.claim(job.id, 60)
    assert node.ledger.jobs.segmented(claimed, Result.model_validate({"files": ["seg.dcm"], "found": []}))
    delivery = node.ledger.deliveries.claim(job.id, "pacs", 60)
    node.ledger.deliveries.end(delivery, DeliveryState.FAILED, "0x0122 SOP class not supported")
    said = story(node, study_of(images[0]), taking)
    assert said.summary == "1 series arrived; 1 job: 1 failed"
    assert said.series[0].jobs[0].sentence == f"job {job.id} is failed: pacs: 0x0122 SOP class not supported"


@pytest.mark.processes
def test_the_command_line_tells_a_study(node, tmp_path, home):
    put(node, protocol(match={"Modality": "MR"}))
    images = ct(tmp_path, 4, "thin")
    node.receives(*images, ago=QUIET + 1)
    node.tick()
    done = voxtell_dicom("protocols", "explain", "--study", study_of(images[0]), home=home)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"study {study_of(images[0])}, Phantom^Synthetic (PHANTOM), 2026-01-01, Synthetic CT"
    assert lines[1].startswith("1 series arrived; no protocol took one")
    assert "  thorax did not take it: Modality is CT, not MR" in lines
    (study,) = json.loads(
        voxtell_dicom("protocols", "explain", "--study", study_of(images[0]), "--json", home=home).stdout
    )
    assert study["series"][0]["decisions"][0]["conditions"][0]["found"] == "CT"


@pytest.mark.peers
def test_a_study_is_also_found_by_its_accession_number(node, tmp_path, home, monkeypatch):
    subject = Subject(accession_number="A 0042")
    images = ct_series(np.zeros((4, 8, 8)), (3.0, 1.0, 1.0), tmp_path / "ct", subject=subject)
    put(node, protocol(match={"Modality": "CT"}))
    node.receives(*images, ago=QUIET + 1)
    (job,) = node.tick()
    monkeypatch.setenv("VOXTELL_HOME", str(home))
    monkeypatch.setenv("VOXTELL_DESTINATIONS", json.dumps([PACS]))
    lines = CliRunner().invoke(app, ["explain", "--study", "A 0042"]).output.splitlines()
    assert lines[0].startswith(f"study {job.study_uid}, ")
    assert f"  job {job.id} is queued: waits for a segmentation worker" in lines


@pytest.mark.parametrize("study", ["hello", "1.2.3 ", "A-0042", "1" * 65, "1,2"])
def test_a_uid_that_is_none_is_usage(home, monkeypatch, study):
    monkeypatch.setenv("VOXTELL_HOME", str(home))
    done = CliRunner().invoke(app, ["explain", "--study", study])
    assert done.exit_code == 2
    assert "is no Study Instance UID (digits and dots, 64 at most)" in " ".join(done.output.replace("│", "").split())


@pytest.mark.peers
def test_every_source_has_one_form_of_json(node, pacs, tmp_path, home, monkeypatch):
    ct(tmp_path / "study", 4, "thin")
    images = sorted((tmp_path / "study" / "thin").iterdir())
    put(node, protocol(match={"Modality": "CT"}))
    node.receives(*images, ago=QUIET + 1)
    node.tick()
    monkeypatch.setenv("VOXTELL_HOME", str(home))
    sources = (["--study", study_of(images[0])], [str(tmp_path / "study")], ["--from-pacs", str(pacs.peer)])
    forms = []
    for words in sources:
        told = json.loads(CliRunner().invoke(app, ["explain", *words, "--json"]).stdout)
        study = told[0]
        series = study["series"][0]
        forms.append((type(told), list(study), list(series), list(series["decisions"][0])))
    assert forms[0] == forms[1] == forms[2]
