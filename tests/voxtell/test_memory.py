"""Admission: how many prompts go together and where their sums are held, decided before the work."""

import weakref
from pathlib import Path

import pytest
import torch

from tests.support.live_tensors import window_bytes
from voxtell import host_memory
from voxtell.errors import CancelledError, OutOfMemoryError
from voxtell.inference import memory, tiling
from voxtell.inference.memory import Admission, admit
from voxtell.model.plans import Plans

GIB = 2**30
CPU, GPU = torch.device("cpu"), torch.device("cuda")
LARGE = (600, 512, 512)
THIRTY_MASKS = 30 * 600 * 512 * 512


def admitted(monkeypatch: pytest.MonkeyPatch, *, host: float, gpu: float | None = None, prompts: int = 30) -> Admission:
    """The admission of a large volume to the published network, with so many GiB free."""
    free = {"cpu": host, "cuda": gpu or 0}
    monkeypatch.setattr(memory, "free_bytes", lambda device: int(free[device.type] * GIB))
    device, number = (CPU, 4) if gpu is None else (GPU, 2)
    return admit(Plans(), LARGE, prompts, results=THIRTY_MASKS, number_bytes=number, device=device)


def test_thirty_prompts_on_a_large_volume_go_together_on_a_host_of_24_gib(monkeypatch: pytest.MonkeyPatch) -> None:
    """2 GiB are the weights and the libraries, 2 the system."""
    assert admitted(monkeypatch, host=20) == Admission(30, CPU)


def test_thirty_prompts_on_a_large_volume_go_together_on_a_gpu_of_12_gib(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of 12 GiB: half a GiB is CUDA's own, 1.9 are the weights and what autocast makes of them."""
    assert admitted(monkeypatch, host=64, gpu=9.6) == Admission(30, GPU)


@pytest.mark.long
@pytest.mark.parametrize(("number", "number_bytes"), [(torch.float16, 2), (torch.float32, 4)])
def test_the_estimate_covers_the_tensors_of_a_window(number: torch.dtype, number_bytes: int) -> None:
    """Counted for the published network; however many prompts, each is decoded by itself."""
    estimated = memory.features_bytes(Plans(), number_bytes)
    for prompts in (1, 30):
        assert 0.85 * estimated < window_bytes(Plans(), prompts, number) <= estimated


@pytest.mark.parametrize(
    "said",
    [
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "GET was unable to find an engine to execute this computation",
    ],
)
def test_a_shortage_is_one_whatever_library_says_so(said: str) -> None:
    with pytest.raises(OutOfMemoryError) as caught, memory.shortage_said():
        raise RuntimeError(said)
    assert str(caught.value.__cause__) == said
    with pytest.raises(RuntimeError, match="illegal"), memory.shortage_said():
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


def test_after_an_error_no_tensor_lives_on_in_the_frames_that_it_passed() -> None:
    alive: list[weakref.ref[torch.Tensor]] = []

    def work() -> None:
        sums = torch.zeros(3)
        alive.append(weakref.ref(sums))
        raise CancelledError

    with pytest.raises(CancelledError) as caught, memory.given_back(CPU):
        work()
    assert caught.value.__traceback__ is not None
    assert alive[0]() is None


def test_sums_that_the_gpu_cannot_hold_are_held_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    assert admitted(monkeypatch, host=64, gpu=6) == Admission(30, CPU)


def test_with_little_memory_on_both_as_many_prompts_go_together_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = admitted(monkeypatch, host=6, gpu=6)
    assert chosen.place == GPU
    assert 1 < chosen.prompts < 30
    slab = tiling.slab_bytes(LARGE, Plans().patch_size)
    taken = (chosen.prompts + 1) * slab + memory.features_bytes(Plans(), 2)
    assert taken <= memory.SHARE * 6 * GIB < taken + slab


def test_what_cannot_fit_is_refused_before_the_work_and_worth_trying_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OutOfMemoryError, match=r"take 9\.5 GiB of memory, 5\.0 GiB are free on cpu") as raised:
        admitted(monkeypatch, host=5)
    assert raised.value.retry == "later"


def test_after_a_failure_half_the_prompts_then_the_host_then_nothing() -> None:
    tried, admission = [], Admission(5, GPU)
    while admission is not None:
        tried.append((admission.prompts, admission.place.type))
        admission = admission.smaller()
    assert tried == [(5, "cuda"), (3, "cuda"), (2, "cuda"), (1, "cuda"), (1, "cpu")]


def cgroup(folder: Path, limit: str) -> Path:
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{3 * GIB}\n")
    (folder / "memory.stat").write_text(f"anon {2 * GIB}\ninactive_file {GIB}\n")
    return folder


def test_a_containers_limit_counts_and_its_file_cache_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_most = memory.free_bytes(CPU)
    monkeypatch.setattr(host_memory, "CGROUP", cgroup(tmp_path, str(3 * GIB + 5)))
    assert memory.free_bytes(CPU) == min(at_most, GIB + 5)


def test_a_container_without_a_limit_has_the_hosts_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_memory, "CGROUP", cgroup(tmp_path, "max"))
    assert memory.free_bytes(CPU) > GIB
