"""Which volumes of a study become jobs, and what is written down about the others."""

import time
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import SecondaryCaptureImageStorage, XRayRadiationDoseSRStorage

from dicom_node.uids import SeriesKey
from tests.support.images import edit
from tests.support.listening import QUIET, IntakeSite
from tests.support.looking import InThisProcess
from tests.support.studies import echoes, series
from worker.findings import Finding, reason_of
from worker.ledger import JobState
from worker.protocols import Protocol
from worker.reports.inbox import ReportInbox
from worker.result import Result
from worker.selection.choose import choose
from worker.selection.study_volumes import readable, studies_in, volumes_of

BEST = {"take": "best", "prefer": ["original", "axial", "soft kernel", "thin"]}


def protocol(**more) -> Protocol:
    return Protocol.model_validate({"name": "liver", "match": {"Modality": "CT"}, "prompts": ["liver"], **more})


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home"
    (folder / "protocols").mkdir(parents=True)
    return folder


@pytest.fixture
def node(home):
    (home / "protocols" / "liver.yaml").write_text(
        "name: liver\nmatch: {Modality: CT}\nprompts: [liver]\nchoose: {take: best, prefer: [soft kernel, thin]}\n"
    )
    made = IntakeSite(home)
    yield made
    made.close()


def uid(paths: list[Path]) -> str:
    return str(dcmread(paths[0], stop_before_pixels=True).SeriesInstanceUID)


def verdicts(protocol: Protocol, folder: Path, **more) -> dict[str, tuple[bool, str]]:
    (study,) = studies_in(folder)
    return {one.volume.label: (one.taken, one.reason) for one in choose(protocol, study, **more)}


# -- one protocol, one study


def test_the_best_of_a_study_is_taken_and_the_others_say_what_is_better(tmp_path):
    series(tmp_path, 2, spacing=5.0, ConvolutionKernel="B30f")
    series(tmp_path, 3, spacing=1.0, ConvolutionKernel="B70f")
    series(tmp_path, 4, spacing=1.0, ConvolutionKernel="B30f")
    found = verdicts(protocol(choose=BEST), tmp_path)
    assert {label: taken for label, (taken, _) in found.items()} == {
        "series 2 (recon 2)": False,
        "series 3 (recon 3)": False,
        "series 4 (recon 4)": True,
    }
    assert found["series 2 (recon 2)"][1] == (
        "the best of 3: no, it is number 2, thin: it has 5.00 mm between slices, "
        "series 4 (recon 4) has 1.00 mm between slices"
    )
    assert found["series 3 (recon 3)"][1] == (
        "the best of 3: no, it is number 3, soft kernel: it has B70f (sharp), series 4 (recon 4) has B30f (soft)"
    )
    assert found["series 4 (recon 4)"][1].endswith("the best of 3: yes, it is number 1")


def test_a_site_may_prefer_by_any_attribute(tmp_path):
    series(tmp_path, 2, spacing=1.0, BodyPartExamined="CHEST")
    series(tmp_path, 3, spacing=5.0, BodyPartExamined="NECK")
    wish = {"take": "best", "prefer": [{"BodyPartExamined": "NECK"}, "thin"]}
    found = verdicts(protocol(choose=wish), tmp_path)
    assert found["series 2 (recon 2)"] == (
        False,
        "the best of 2: no, it is number 2, BodyPartExamined equals 'NECK': it has CHEST, series 3 (recon 3) has NECK",
    )
    assert found["series 3 (recon 3)"][0]


def test_what_is_no_volume_is_never_taken_and_the_slice_is_named(tmp_path):
    whole, holed = series(tmp_path, 1), series(tmp_path, 2)
    holed[1].unlink()
    for number, (values, stay) in enumerate(
        [
            ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, 4),
            ({"SOPClassUID": SecondaryCaptureImageStorage}, 4),
            ({"SOPClassUID": XRayRadiationDoseSRStorage}, 4),
            ({}, 1),
            ({"ImageType": ["DERIVED", "SECONDARY", "MIP"]}, 4),
        ],
        start=3,
    ):
        for path in series(tmp_path, number, **values)[stay:]:
            path.unlink()
    found = verdicts(protocol(), tmp_path)
    assert [label for label, (taken, _) in found.items() if taken] == ["series 1 (recon 1)"]
    reasons = [reason for _, (taken, reason) in sorted(found.items()) if not taken]
    for reason, part in zip(
        reasons,
        [
            "a slice is missing between 0001.dcm",
            "0001.dcm is left out: it is a localizer",
            "it is a Secondary Capture Image object",
            "it is a X-Ray Radiation Dose SR object",
            "a single slice is no volume: 0001.dcm",
            "none of projection: no, it is an intensity projection",
        ],
        strict=True,
    ):
        assert part in reason
    assert len(whole) == 4


def test_projections_may_be_allowed_and_reformats_forbidden(tmp_path):
    series(tmp_path, 1, ImageType=["DERIVED", "SECONDARY", "MIP"])
    series(tmp_path, 2, ImageType=["DERIVED", "SECONDARY", "MPR"])
    assert [taken for taken, _ in verdicts(protocol(choose={"never": []}), tmp_path).values()] == [True, True]
    assert [taken for taken, _ in verdicts(protocol(choose={"never": ["reformatted"]}), tmp_path).values()] == [
        True,
        False,
    ]


def test_phantoms_are_taken_unless_a_protocol_leaves_them_out(tmp_path):
    series(tmp_path, 1, StudyDescription="Daily QC")
    (left_out,) = verdicts(protocol(choose={"never": ["projection", "phantom"]}), tmp_path).values()
    assert left_out == (
        False,
        "none of projection, phantom: no, it is an image of a phantom ('QC' in StudyDescription)",
    )
    (taken,) = verdicts(protocol(), tmp_path).values()
    assert taken[0]


def test_each_echo_of_a_series_is_a_volume_of_its_own_whatever_the_order_of_the_files(tmp_path):
    paths = echoes(tmp_path, "5.5", "90")
    volumes = volumes_of(readable(paths))
    assert [volume.name for volume in volumes] == ["EchoTime=5.5", "EchoTime=90"]
    assert [len(volume.instances) for volume in volumes] == [4, 4]
    again = volumes_of(readable(paths[::-1]))
    assert [(one.name, set(one.instances)) for one in again] == [(one.name, set(one.instances)) for one in volumes]


def test_a_condition_may_pick_one_echo_and_one_broken_echo_does_not_spoil_the_other(tmp_path):
    paths = echoes(tmp_path, "5.5", "90", "120")
    paths[-2].unlink()
    answers = choose(
        protocol(match={"EchoTime": {"min": 50}}), volumes_of(readable([path for path in paths if path.exists()]))
    )
    assert [one.taken for one in answers] == [False, True, False]
    assert reason_of([one.on_volume for one in answers]) == (
        "EchoTime=5.5: EchoTime min 50.0: no, it is 5.5 | "
        "EchoTime=90: EchoTime min 50.0: yes, it is 90; one regular volume: yes, it is 4 slices, 3.00 mm apart, axial"
        " | EchoTime=120: one regular volume: no, it is not: " + answers[2].volume.problem
    )
    assert "a slice is missing between" in answers[2].volume.problem


# -- through the node


@pytest.mark.peers
def test_the_best_waits_for_the_series_that_still_arrive(node, tmp_path):
    thick, thin = series(tmp_path, 1, spacing=5.0), series(tmp_path, 2, spacing=1.0)
    node.receives(*thick, ago=QUIET + 5)
    node.receives(*thin, ago=QUIET - 5, association="a2")
    assert node.tick() == []
    (waiting,) = node.ledger.series.decisions_on(dcmread(thick[0]).StudyInstanceUID)
    assert waiting.reason == "a complete study: no, it is not: 1 of its series still arrive"
    node.receives(thin[0], ago=QUIET + 1, association="a3")
    (job,) = node.tick()
    assert job.series_uid == uid(thin)
    decided = {one.series_uid: one for one in node.ledger.series.decisions_on(job.study_uid)}
    assert not decided[uid(thick)].taken
    assert "thin: it has 5.00 mm" in decided[uid(thick)].reason
    assert decided[uid(thin)].taken
    (volume,) = decided[uid(thin)].volumes
    assert volume.findings[-1] == Finding("the best of 2", "number 1", True)


@pytest.mark.peers
def test_the_best_waits_for_the_study_also_when_its_first_series_is_provably_full(node, tmp_path):
    """The next reconstruction may follow on the same association, or soon after."""
    thick, thin = series(tmp_path, 1, spacing=5.0), series(tmp_path, 2, spacing=1.0)
    for path in thick:
        edit(path, NumberOfSeriesRelatedInstances=len(thick))
    node.receives(*thick, ago=QUIET / 2)
    assert node.tick(SeriesKey(str(dcmread(thick[0]).StudyInstanceUID), uid(thick))) == []
    (decision,) = node.ledger.series.decisions_on(str(dcmread(thick[0]).StudyInstanceUID))
    assert decision.reason == "a complete study: no, it is not: an association that brings it is open"
    node.restart()
    assert node.tick() == []
    (decision,) = node.ledger.series.decisions_on(decision.study_uid)
    assert decision.reason == "a complete study: no, it is not: its last image came less than 10 s ago"
    node.receives(*thin, ago=0)
    assert node.tick() == []
    with pytest.MonkeyPatch.context() as later:
        later.setattr(time, "time", lambda now=time.time: now() + 2 * QUIET)
        (job,) = node.tick()
    assert job.series_uid == uid(thin)


@pytest.mark.peers
def test_a_better_series_that_comes_before_anything_is_sent_takes_the_place(node, tmp_path):
    thick, thin = series(tmp_path, 1, spacing=5.0), series(tmp_path, 2, spacing=1.0)
    node.receives(*thick, ago=3 * QUIET)
    (first,) = node.tick()
    node.receives(*thin, ago=QUIET + 1)
    old, new = node.tick()
    assert (old.id, old.state, old.superseded_by) == (first.id, JobState.CANCELLED, new.id)
    assert old.reason == f"superseded by job {new.id}: a better volume of the study arrived"
    assert (new.series_uid, new.state) == (uid(thin), JobState.QUEUED)


@pytest.mark.peers
def test_a_better_series_that_turns_out_to_be_none_gives_the_place_back(node, tmp_path):
    thick, thin = series(tmp_path, 1, spacing=5.0), series(tmp_path, 2, spacing=1.0)
    node.receives(*thick, ago=4 * QUIET)
    node.receives(*thin, ago=3 * QUIET)
    node.tick()
    stray = series(tmp_path / "more", 2, spacing=1.0, slices=5)[-1]
    edit(stray, SeriesInstanceUID=uid(thin), FrameOfReferenceUID=dcmread(thin[0]).FrameOfReferenceUID)
    edit(stray, ImagePositionPatient=[-3.5, -3.5, 20.0])
    node.receives(stray, ago=QUIET + 1, association="a2")
    states = {job.series_uid: job.state for job in node.tick()}
    assert states == {uid(thick): JobState.QUEUED, uid(thin): JobState.CANCELLED}


@pytest.mark.peers
def test_a_better_series_that_comes_after_the_results_leaves_the_first_choice_standing(node, tmp_path):
    thick, thin = series(tmp_path, 1, spacing=5.0), series(tmp_path, 2, spacing=1.0)
    node.receives(*thick, ago=3 * QUIET)
    (first,) = node.tick()
    done = node.ledger.jobs.claim(first.id, 60)
    assert node.ledger.jobs.segmented(done, Result.model_validate({"found": [], "not_found": [], "files": []}))
    node.receives(*thin, ago=2 * QUIET)
    assert [job.id for job in node.tick()] == [first.id]
    decided = {one.series_uid: one.reason for one in node.ledger.series.decisions_on(first.study_uid)}
    assert decided[uid(thin)] == (
        "nothing of the study segmented yet: no, it is not: series 1 (recon 1) is, and stays the protocol's choice"
    )
    late = series(tmp_path / "more", 1, spacing=5.0, slices=5)[-1]
    edit(late, SeriesInstanceUID=uid(thick), FrameOfReferenceUID=dcmread(thick[0]).FrameOfReferenceUID)
    position = dcmread(thick[-1]).ImagePositionPatient
    edit(late, ImagePositionPatient=[*position[:2], position[2] + 5.0])
    node.receives(late, ago=QUIET + 1, association="a2")
    _, second = node.tick()
    assert (second.series_uid, len(second.spec.instances)) == (uid(thick), 5)


@pytest.mark.peers
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_the_choice_does_not_depend_on_the_order_of_arrival(node, tmp_path, order):
    recons = [series(tmp_path, n, spacing=s) for n, s in ((1, 5.0), (2, 1.0), (3, 1.0))]
    for index in order:
        node.receives(*recons[index], ago=QUIET + 1 + index)
        node.tick()
    unfinished = [job for job in node.ledger.jobs.find() if job.state is JobState.QUEUED]
    assert [job.series_uid for job in unfinished] == [uid(recons[1])]


@pytest.mark.peers
def test_every_echo_becomes_a_job_of_its_own_and_a_late_echo_changes_none(node, home, tmp_path):
    (home / "protocols" / "liver.yaml").write_text("name: liver\nmatch: {Modality: CT}\nprompts: [liver]\n")
    paths = echoes(tmp_path, "5.5", "90", "120")
    node.receives(*paths[:8], ago=3 * QUIET)
    jobs = node.tick()
    assert sorted(job.spec.volume for job in jobs) == ["EchoTime=5.5", "EchoTime=90"]
    assert all(len(job.spec.instances) == 4 for job in jobs)
    assert not set(jobs[0].spec.instances) & set(jobs[1].spec.instances)
    node.receives(*paths[8:], ago=QUIET + 1, association="a2")
    states = {job.spec.volume: job.state for job in node.tick()}
    assert states == dict.fromkeys(["EchoTime=5.5", "EchoTime=90", "EchoTime=120"], JobState.QUEUED)


@pytest.mark.peers
def test_a_job_carries_what_its_protocol_says(node, home, tmp_path):
    (home / "protocols" / "liver.yaml").write_text(
        "name: liver\nmatch: {Modality: CT}\nprompts: [liver, left kidney]\npriority: urgent\nrelease: true\n"
        "window: ['22:00', '06:00']\noutputs: [seg, rtstruct]\nholes: xor\n"
        "derived: [{name: both, union: [liver, left kidney]}]\n"
    )
    paths = series(tmp_path, 1)
    localizer = series(tmp_path, 2)[0]
    edit(localizer, SeriesInstanceUID=uid(paths), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    node.receives(*paths, localizer, ago=QUIET + 1)
    (job,) = node.tick()
    work = job.spec
    assert (work.priority.name, work.release, work.window, work.holes) == ("URGENT", True, ("22:00", "06:00"), "xor")
    assert (work.outputs, [one.name for one in work.derived]) == (("seg", "rtstruct"), ["both"])
    assert work.volume is None
    assert set(work.instances) == {str(dcmread(path).SOPInstanceUID) for path in paths}  # without the localizer


@pytest.mark.peers
def test_a_protocol_without_its_model_takes_nothing_and_says_why(node, home, tmp_path):
    (home / "protocols" / "liver.yaml").write_text(
        "name: liver\nmatch: {Modality: CT}\nprompts: [liver]\nmodel: published\n"
    )
    paths = series(tmp_path, 1)
    node.receives(*paths, ago=QUIET + 1)
    assert node.tick() == []
    (decision,) = node.ledger.series.decisions_on(dcmread(paths[0]).StudyInstanceUID)
    assert decision.reason.startswith("an active protocol: no, it is not: protocol 'liver' is inactive: it needs")


# -- the study's report

WAITS = "name: liver\nmatch: {Modality: CT}\nprompts: [liver]\nreport: {use: true, wait_minutes: 60}\n"
REPORT = b"FINDINGS: 8 mm solid nodule in the right upper lobe. No pleural effusion."


@pytest.mark.peers
def test_a_study_waits_for_its_report_without_being_read_again_and_again(node, home, tmp_path, monkeypatch):
    (home / "protocols" / "liver.yaml").write_text(WAITS)
    paths = series(tmp_path, 1)
    study_uid = str(dcmread(paths[0]).StudyInstanceUID)
    node.receives(*paths, ago=QUIET + 1)
    assert node.tick() == []
    (decision,) = node.ledger.series.decisions_on(study_uid)
    assert decision.reason.startswith("a report: no, it is not there: waits for a report until ")
    with monkeypatch.context() as closed:
        closed.setattr(InThisProcess, "ask", lambda *_: pytest.fail("read again"))
        assert node.tick() == []
    node.restart()
    assert node.tick() == []
    ReportInbox(home, node.ledger).take(REPORT, source="http", study_uid=study_uid)
    (job,) = node.tick()
    assert [prompt.text for prompt in job.spec.prompts] == ["liver", "solid nodule in the right upper lobe"]
    assert "8 mm solid nodule" in job.spec.prompts[1].sentence
    assert node.ledger.series.unsettled() == []


@pytest.mark.peers
def test_what_the_protocol_asks_for_already_is_not_asked_for_again(node, home, tmp_path):
    asked = WAITS.replace("[liver]", "[liver, Solid nodule in the right upper lobe]")
    (home / "protocols" / "liver.yaml").write_text(asked)
    paths = series(tmp_path, 1)
    node.receives(*paths, ago=QUIET + 1)
    ReportInbox(home, node.ledger).take(REPORT, source="http", study_uid=str(dcmread(paths[0]).StudyInstanceUID))
    (job,) = node.tick()
    assert [prompt.text for prompt in job.spec.prompts] == ["liver", "Solid nodule in the right upper lobe"]


@pytest.mark.peers
def test_after_the_time_the_study_goes_on_without_a_report(node, home, tmp_path):
    (home / "protocols" / "liver.yaml").write_text(WAITS)
    node.receives(*series(tmp_path, 1), ago=61 * 60)
    (job,) = node.tick()
    assert [prompt.text for prompt in job.spec.prompts] == ["liver"]


@pytest.mark.peers
@pytest.mark.parametrize(
    ("protocol", "reason"),
    [
        ("prompts: [liver]\nreport: {required: true}\n", "a report: no, it is not there: no report is there"),
        ("report: {use: true}\n", "something to segment: no, it is nothing: no report is there"),
    ],
)
def test_without_a_report_there_may_be_nothing_to_do(node, home, tmp_path, protocol, reason):
    (home / "protocols" / "liver.yaml").write_text("name: liver\nmatch: {Modality: CT}\n" + protocol)
    paths = series(tmp_path, 1)
    node.receives(*paths, ago=QUIET + 1)
    assert node.tick() == []
    assert [one.reason for one in node.ledger.series.decisions_on(str(dcmread(paths[0]).StudyInstanceUID))] == [reason]


@pytest.mark.peers
def test_who_waits_for_a_report_holds_up_no_other_protocol(node, home, tmp_path):
    (home / "protocols" / "reported.yaml").write_text(WAITS.replace("name: liver", "name: reported"))
    thick, thin = series(tmp_path, 1, spacing=5.0), series(tmp_path, 2, spacing=1.0)
    node.receives(*thick, *thin, ago=QUIET + 1)
    (job,) = node.tick()
    assert (job.protocol, job.series_uid) == ("liver", uid(thin))
    assert len(node.ledger.series.unsettled()) == 2
