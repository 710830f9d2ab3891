"""Virtual environments beside that of `make test`: another Python, another version of the framework."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
EXTRAS = "cosmos,cli,projector,web,samples,dev"
"""Of this package, those that the suite needs: as the Makefile has them for `.venv`, which `tests/test_ci.py` holds."""


def made(place: Path, python: str | Path, *requirements: str) -> Path:
    """The Python of a virtual environment with this checkout and `requirements` in it; made anew when `pyproject.toml`
    or the Python changes.

    Args:
        place: its folder.
        python: the interpreter that it is made with.
        requirements: beside those of `pyproject.toml`.
    """
    inside, stamp = place / "bin" / "python", place / "made-from"
    version = subprocess.run([python, "-VV"], check=True, stdout=subprocess.PIPE).stdout
    made_from = hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + version).hexdigest()
    if stamp.is_file() and stamp.read_text() == made_from:
        return inside
    subprocess.run([python, "-m", "venv", "--clear", place], check=True)
    install(inside, "--editable", f"{ROOT}[{EXTRAS}]", *requirements)
    stamp.write_text(made_from)
    return inside


def install(python: str | Path, *arguments: str) -> bytes:
    """What pip's `install` prints to its output; its complaints go through."""
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    run = subprocess.run(command, check=False, stdout=subprocess.PIPE)
    if run.returncode != 0:
        sys.exit(f"pip cannot install {arguments[-1]}.")
    return run.stdout
