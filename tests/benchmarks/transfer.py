"""What memory an import takes: a file of 1 GB, written for it, against one of a tenth."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from eventckpt import CheckpointEvent, StreamId
from eventckpt.audit.archive import beginning_line, event_line, run_line, totals_line
from eventckpt.stores.conformance import make_event

from .measure import Figure

__all__ = ["memory"]

_IMPORT = """
import resource, sys
from eventckpt.cli import app
try:
    app(["import", sys.argv[1], "--store", sys.argv[2]])
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, file=sys.stderr)
"""


def memory(megabytes: int = 1_000) -> list[Figure]:
    """The most memory that `eventckpt import` has taken, of a file of so many megabytes and of one of a tenth."""
    with tempfile.TemporaryDirectory() as folder:
        small, large = (_peak(Path(folder), size) for size in (megabytes * 100_000, megabytes * 1_000_000))
    ratio = large / small
    return [
        Figure(
            f"memory of an import of {megabytes:,} MB",
            f"{large / 1e6:,.0f} MB",
            f"{small / 1e6:,.0f} MB for {megabytes // 10} MB",
            ratio,
            "≤ 1.1 ×",
            ratio <= 1.1,
        )
    ]


def _peak(folder: Path, size: int) -> int:
    file = folder / f"{size}.jsonl"
    _write(file, size)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _IMPORT, str(file), str(folder / f"{size}.db")],
        check=True,
        capture_output=True,
        text=True,
    )
    assert "The export was whole." in done.stdout
    file.unlink()
    return int(done.stderr.split()[-1])


def _write(path: Path, size: int) -> None:
    data, stream, written, count = os.urandom(75_000), StreamId("w", "large"), 0, 0
    previous: CheckpointEvent | None = None
    with path.open("wb") as file:
        file.write(beginning_line() + b"\n")
        while written < size or previous is None:
            count += 1
            previous = make_event(stream, count, previous=previous, data=data)
            written += file.write(event_line(previous) + b"\n")
        file.write(run_line(stream, count, count, previous.digest) + b"\n" + totals_line(1, count) + b"\n")
