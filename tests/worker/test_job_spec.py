"""The work of a job: the same work is the same job, whatever came first."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from worker.job_spec import Derived, Finish, JobSpec, Prompt, Route

UIDS = st.lists(st.integers(1, 99).map(lambda number: f"1.2.{number}"), min_size=1, unique=True)
FACTS = {
    "study_uid": "1.2",
    "series_uid": "1.2.3",
    "protocol": "liver",
    "protocol_digest": "0" * 16,
    "prompts": (Prompt(text="liver"),),
    "model": None,
}


@given(st.data(), UIDS)
def test_the_order_in_which_images_came_makes_no_other_job(data, uids):
    shuffled = data.draw(st.permutations(uids))
    assert JobSpec.of(instances=uids, **FACTS) == JobSpec.of(instances=shuffled, **FACTS)
    assert JobSpec.of(instances=uids, **FACTS).job_id == JobSpec.of(instances=shuffled, **FACTS).job_id


@given(UIDS, UIDS)
def test_other_images_are_another_job(uids, others):
    same = set(uids) == set(others)
    assert (JobSpec.of(instances=uids, **FACTS).job_id == JobSpec.of(instances=others, **FACTS).job_id) is same


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"routes": (Route(to="pacs"),)}, True),
        ({"priority": "urgent", "window": ("22:00", "06:00"), "release": True, "shadow": True}, True),
        ({"volume": "echo 2"}, True),
        ({"frames": "0" * 16}, False),
        ({"derived": (Derived(name="both", union=("liver",)),)}, False),
        ({"prompts": (Prompt(text="liver", finish=Finish(fill_holes=True)),)}, False),
        ({"series_uid": "1.2.4"}, False),
        ({"protocol_digest": "1" * 16}, False),
        ({"prompts": (Prompt(text="spleen"),)}, False),
        ({"prompts": (Prompt(text="liver", name="Liver"),)}, False),
        ({"model": "/models/large"}, False),
        ({"outputs": ("seg", "nifti")}, False),
    ],
)
def test_what_decides_a_result_decides_the_job_and_where_it_goes_does_not(change, same):
    job_id = JobSpec.of(instances=["1.2.3.1"], **FACTS).job_id
    assert len(job_id) == 16
    assert (JobSpec.of(instances=["1.2.3.1"], **(FACTS | change)).job_id == job_id) is same


@given(UIDS)
def test_work_comes_back_from_the_ledger_as_it_was(uids):
    work = JobSpec.of(instances=uids, routes=(Route(to="pacs"),), priority="archive", **FACTS)
    assert JobSpec.model_validate(work.model_dump(mode="json")) == work


def test_work_that_makes_no_sense_is_refused():
    with pytest.raises(ValidationError):
        JobSpec.of(instances=["1.2.3.1"], **(FACTS | {"outputs": ("hologram",)}))
    with pytest.raises(ValidationError):
        JobSpec.of(instances=["1.2.3.1"], colour="red", **FACTS)


def test_volumes_of_one_file_are_told_apart_by_their_frames_and_by_name_where_an_old_job_says_nothing_of_frames():
    first, second = (
        JobSpec.of(instances=["1.2.3.1"], **FACTS, frames=digit * 16, volume=name)
        for digit, name in (("1", "EchoTime=5"), ("2", "EchoTime=90"))
    )
    old = JobSpec.of(instances=["1.2.3.1"], **FACTS, volume="EchoTime=5")
    assert first.job_id != second.job_id
    assert first.same_work(first.model_copy(update={"volume": "another name"}))
    assert not second.same_work(first)
    assert first.same_work(old)
    assert not second.same_work(old)
