"""What `import eventckpt` takes beside the framework's module of checkpoints, which any store of them needs."""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
from pathlib import Path

from .before import base_folder
from .measure import PRINTED, Figure, Sample, at_most, compared

__all__ = ["imports"]

_HERE = Path(__file__).parents[2]
_FRAMEWORK = "import agent_framework._workflows._checkpoint"


def imports(rounds: int = 15) -> list[Figure]:
    """Processor time of whole interpreters, each with one import; they take turns."""
    programs = {
        "ours": ("import eventckpt", _HERE),
        "the framework's module of checkpoints": (_FRAMEWORK, _HERE),
        "an empty program": ("", _HERE),
    }
    if folder := base_folder():
        programs["before"] = ("import eventckpt", folder)
    taken: dict[str, list[float]] = {name: [] for name in programs}
    for program in programs.values():
        _seconds(*program)  # compiles what is not compiled yet
    order = random.Random(rounds)
    for _ in range(rounds):
        for name in order.sample(list(programs), len(programs)):
            taken[name].append(_seconds(*programs[name]))
    samples = {name: Sample(values, lambda seconds: f"{seconds * 1000:.0f} ms") for name, values in taken.items()}
    bounds = {"the framework's module of checkpoints": at_most(1.5), "an empty program": PRINTED}
    return [
        compared("import eventckpt, CPU", samples["ours"], samples[name], name, bound, samples.get("before"))
        for name, bound in bounds.items()
    ]


def _seconds(program: str, folder: Path) -> float:
    before = _of_children()
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        check=True,
        cwd=folder,
        # Compiled once, as what is installed is, whatever this process was told.
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": ""},
    )
    return _of_children() - before


def _of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
