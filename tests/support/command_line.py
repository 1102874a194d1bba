"""The command `voxtell-dicom` in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path


def voxtell_dicom(*words: str | Path, home: Path, **settings: object) -> subprocess.CompletedProcess[str]:
    """Runs the command in a process of its own, with a home of its own."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("VOXTELL_")}
    environment |= {"VOXTELL_HOME": str(home)} | {f"VOXTELL_{k.upper()}": str(v) for k, v in settings.items()}
    command = [sys.executable, "-m", "worker", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """What a failed command says: exactly one line, no traceback, exit code 1."""
    assert done.returncode == 1, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("voxtell-dicom: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]
