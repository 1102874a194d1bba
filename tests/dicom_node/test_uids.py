"""Which strings are UIDs, and that derived ones are, and stay the same."""

import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.uids import derived_uid, is_uid

components = st.integers(min_value=0, max_value=10**12).map(str)
uids = st.lists(components, min_size=1, max_size=8).map(".".join).filter(lambda text: len(text) <= 64)


@given(uids)
def test_dotted_numbers_of_up_to_64_characters_are_uids(uid):
    assert is_uid(uid)


@given(st.text())
def test_a_string_that_passes_can_never_leave_its_folder(text):
    if is_uid(text):
        assert re.fullmatch("[0-9.]{1,64}", text)
        assert ".." not in text
        assert not text.startswith(".")


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "1..2", ".1", "1.", "1.2\n", "1/2", "1.2 ", "../1", "1.2\x00", "१.२", "-1", "1" * 65],
)
def test_anything_else_is_no_uid(text):
    assert not is_uid(text)


def test_leading_zeros_are_tolerated_because_scanners_write_them():
    assert is_uid("1.2.840.01")


@given(st.lists(st.text(max_size=80), max_size=5))
def test_a_derived_uid_is_a_valid_uuid_uid(parts):
    uid = derived_uid(*parts)
    assert is_uid(uid)
    number = uuid.UUID(int=int(uid.removeprefix("2.25.")))
    assert (number.variant, number.version) == (uuid.RFC_4122, 8)


@given(st.lists(st.text(max_size=20), max_size=4), st.lists(st.text(max_size=20), max_size=4))
def test_derived_uids_are_equal_exactly_when_the_parts_are(some, others):
    assert (derived_uid(*some) == derived_uid(*others)) == (some == others)


def test_a_derived_uid_never_changes_between_versions():
    assert derived_uid("1.2.3", "liver") == "2.25.58369318559932197922022088138487740378"
