"""The watcher of `make fuzz` is watched: it finds each kind of harm in looks that were sound before; and its inputs."""

import random
from dataclasses import replace

import pytest

from tests.fuzz.door import Case, case_of
from tests.fuzz.mllp import Mllp
from tests.fuzz.mutations import mutated, mutated_json
from tests.fuzz.watch import MOST_BYTES, READS_HEADERS, Look, Process, judge, tracebacks

LISTENER, READER, WORKER = (Process(role, number, 0.0) for number, role in enumerate(("listen", READS_HEADERS, "up")))
SIZE = 100 * 2**20
TRACEBACK = """  Traceback (most recent call last):
    File "/x/worker/a.py", line 7, in f
      g()
  KeyError: 1
"""
LOG = "2026-01-01T00:00:00Z [warning  ] connection_closed   reason='a PDU of type 0x44'\n"


def sound(seconds: int = 300) -> list[Look]:
    return [Look(float(at), 0.1, {LISTENER: SIZE, READER: SIZE, WORKER: SIZE}) for at in range(seconds)]


def with_look(at: int, **values: object) -> list[Look]:
    looks = sound()
    looks[at] = replace(looks[at], **values)
    return looks


def without(process: Process) -> list[Look]:
    return [
        replace(look, memory={one: size for one, size in look.memory.items() if one != process or look.at < 100})
        for look in sound()
    ]


HARM = {
    "an echo is late": (with_look(7, echo_seconds=2.5), LOG, "the C-ECHO at 7 s took 2.5 s"),
    "an echo fails": (with_look(7, echo_seconds=None), LOG, "the C-ECHO at 7 s was not answered"),
    "a process dies": (without(LISTENER), LOG, "listen (0) was gone at 100 s"),
    "memory is full": (with_look(7, memory={LISTENER: MOST_BYTES + 1, READER: 0, WORKER: 0}), LOG, "may use 2048 MiB"),
    "memory grows": (
        [replace(look, memory={one: SIZE + int(look.at) * 2**19 for one in look.memory}) for look in sound()],
        LOG,
        "its memory grew from 412 MiB after a minute",
    ),
    "an error": (
        sound(),
        LOG + LOG.replace("warning  ] connection_closed", "error    ] role_ended"),
        "1 lines of role_ended",
    ),
    "a line of somebody else": (
        sound(),
        LOG + "Unknown encoding 'x'\n",
        "1 lines are not the node's, such as \"Unknown",
    ),
    "a control character": (sound(), LOG + LOG.replace("PDU", "\x1b[2J"), "1 lines are not the node's"),
    "a traceback": (sound(), LOG + TRACEBACK, "1 tracebacks of KeyError at worker/a.py:7"),
}


def test_nothing_is_wrong_with_sound_looks() -> None:
    failed = LOG.replace("warning  ] connection_closed", "error    ] job_failed")
    verdict = judge(sound(), LOG + failed, echo_seconds=2.0)
    assert verdict.faults == []
    assert verdict.counts["C-ECHO answered"] == "300 of 300"
    assert verdict.counts["memory, after a minute and at the end"] == "300 MiB, 300 MiB"


@pytest.mark.parametrize("harm", HARM)
def test_harm_is_found(harm: str) -> None:
    looks, log, fault = HARM[harm]
    faults = judge(looks, log, echo_seconds=2.0).faults
    assert len(faults) == 1
    assert fault in faults[0]


def test_the_process_that_reads_headers_may_die() -> None:
    assert judge(without(READER), LOG, echo_seconds=2.0).faults == []


def test_memory_is_not_called_flat_after_a_minute() -> None:
    assert judge(sound(60), LOG, echo_seconds=2.0).counts["memory, flat"] == "not judged: 59 s are too short"


def test_tracebacks_are_told_apart() -> None:
    other = TRACEBACK.replace("KeyError", "voxtell.errors.FileError").replace("a.py", "b.py")
    assert tracebacks(TRACEBACK * 2 + LOG + other) == {
        "KeyError at worker/a.py:7": 2,
        "voxtell.errors.FileError at worker/b.py:7": 1,
    }


def test_the_same_seed_gives_the_same_inputs() -> None:
    door = Mllp(0)

    def inputs(seed: int) -> list[Case]:
        return [case_of(door, seed, number) for number in range(60)]

    assert inputs(1) == inputs(1) != inputs(2)
    assert [case.number for case in inputs(1) if case.sound] == [0, 20, 40]
    assert [case.number for case in inputs(1) if case.stranger] == [24, 49]


def test_changes_change_and_end() -> None:
    chance = random.Random(3)
    content = b"a sound input" * 5
    changed = [mutated(chance, content, words=(b"word",), near=10) for _ in range(300)]
    assert sum(one != content for one in changed) > 290
    document = {"a": [1, 2, {"b": "c"}], "d": 0.5}
    texts = {mutated_json(chance, document) for _ in range(300)}
    assert len(texts) > 100
    assert document == {"a": [1, 2, {"b": "c"}], "d": 0.5}
