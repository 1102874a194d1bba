"""The parts of a STOW-RS request, however its body is cut, and whatever it is."""

from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.scp.web_parts import Parts, WebRequestError
from tests.support.instances import data_set, small_instance
from tests.support.web import BOUNDARY, body, part10


class Kept:
    """A part that is kept in memory."""

    def __init__(self, meta) -> None:
        self.meta, self.content, self.ended = meta, b"", False

    def write(self, content: bytes) -> None:
        self.content += content

    def finish(self) -> None:
        self.ended = True

    def discard(self) -> None:
        pass


@given(st.lists(st.binary(max_size=300) | st.just(part10(small_instance())), min_size=1, max_size=4), st.data())
@settings(deadline=None)
def test_parts_come_out_whole_however_the_body_is_cut(contents, data):
    kept = []
    parts = Parts(f"multipart/related; boundary={BOUNDARY}", lambda meta: kept.append(Kept(meta)) or kept[-1])
    stream = body(*contents)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        parts.write(stream[start:end])
    assert [one.ended for one in kept] == [True] * len(contents)
    for one, content in zip(kept, contents, strict=True):
        assert one.content == (content if one.meta is None else data_set(content))


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_any_body_is_parts_or_refused(content):
    parts = Parts(f"multipart/related; boundary={BOUNDARY}", Kept)
    try:
        parts.write(content)
    except WebRequestError:
        return
    parts.discard()
