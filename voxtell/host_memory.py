"""How much memory this process may still take of its machine. Loads no torch."""

from pathlib import Path
from typing import Final

import psutil  # type: ignore[import-untyped]

CGROUP: Final = Path("/sys/fs/cgroup")


def free_host_bytes() -> int:
    """Returns the bytes that new arrays may take in this process.

    The container's limit counts where it is lower than what the machine has, and so does the process's own (ulimit -v).
    """
    limits = (int(psutil.virtual_memory().available), _free_in_cgroup(), _free_addresses())
    return min(limit for limit in limits if limit is not None)


def gib(size: float) -> str:
    """Returns a number of bytes as people read it, such as "9.5 GiB"."""
    return f"{size / 2**30:.1f} GiB"


def _free_in_cgroup() -> int | None:
    """Returns the bytes that a container's memory limit (cgroup v2) leaves, or None where there is no limit.

    Inactive file pages count as free: the kernel drops them before it kills anything.
    """
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        used = int((CGROUP / "memory.current").read_text())
        stat = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    except OSError:
        return None
    return None if limit == "max" else max(0, int(limit) - used + int(stat.get("inactive_file", 0)))


def _free_addresses() -> int | None:
    """Returns the bytes that a limit on the address space (RLIMIT_AS) leaves, or None where there is no limit."""
    if not hasattr(psutil, "RLIMIT_AS"):  # another system than Linux
        return None
    process = psutil.Process()
    limit, _ = process.rlimit(psutil.RLIMIT_AS)
    return None if limit == psutil.RLIM_INFINITY else max(0, limit - process.memory_info().vms)
