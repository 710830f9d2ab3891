"""The suite without what is slow, on every other CPython that this package supports and that this machine has.

    python -m tests.python_versions            # all that are found
    python -m tests.python_versions --newest   # the newest of them
    python -m tests.python_versions 3.13       # this one

An interpreter is found as `python3.13` on PATH, or in a folder of pyenv. Each gets a virtual environment of its own.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.specifiers import SpecifierSet

from .environments import ROOT, made

ENVIRONMENTS = ROOT / ".venv-pythons"
NEWEST = 30
"""Minor versions that are looked for: up to here."""


def main(arguments: list[str] | None = None) -> int:
    """Run it on each; 1 if it fails on any, or one that is named is not found."""
    parser = argparse.ArgumentParser(prog="python -m tests.python_versions", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "versions", nargs="*", help="such as 3.13; default: all that are found, but for the one that runs this"
    )
    parser.add_argument("--newest", action="store_true", help="of those that are found, the newest only")
    options = parser.parse_args(arguments)
    found = dict(interpreters(os.environ))
    own = f"3.{sys.version_info.minor}"
    versions = options.versions or others(found, own, newest=options.newest)
    failed = [each for each in versions if each not in found or not passes(each, found[each])]
    print(
        f"Besides {own}, the suite ran on: {', '.join(each for each in versions if each in found) or 'none'}.",
        flush=True,
    )
    if failed:
        print(f"It fails, or is not to be found: CPython {', '.join(failed)}.", file=sys.stderr)
    return 1 if failed else 0


def others(found: Iterable[str], own: str, *, newest: bool) -> list[str]:
    """The versions that are not `own`: all, or the newest only.

    Args:
        found: the older ones first.
    """
    versions = [each for each in found if each != own]
    return versions[-1:] if newest else versions


def interpreters(environ: dict[str, str] | os._Environ[str]) -> Iterator[tuple[str, Path]]:
    """Every CPython that `pyproject.toml` admits and that runs, by its minor version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    admitted = SpecifierSet(project["requires-python"])
    for minor in range(NEWEST):
        version = f"3.{minor}"
        if admitted.contains(version) and (python := interpreter(version, environ)) is not None:
            yield version, python


def interpreter(version: str, environ: dict[str, str] | os._Environ[str]) -> Path | None:
    """Where the CPython of a minor version is; None where there is none that runs."""
    folders = environ.get("PYENV_ROOT") or str(Path(environ.get("HOME", "/")) / ".pyenv")
    pyenv = sorted(Path(folders).glob(f"versions/{version}.*/bin/python{version}"), key=_patch)
    on_path = shutil.which(f"python{version}", path=environ.get("PATH"))
    for candidate in [*([Path(on_path)] if on_path else []), *reversed(pyenv)]:
        code = "import sys, venv; print(sys.implementation.name, *sys.version_info[:2])"
        ran = subprocess.run([candidate, "-c", code], check=False, capture_output=True, text=True)
        if ran.stdout.split() == ["cpython", *version.split(".")]:
            return candidate
    return None


def _patch(python: Path) -> list[int]:
    return [int(number) for number in re.findall(r"[0-9]+", python.parent.parent.name)]


def passes(version: str, python: Path) -> bool:
    """Whether it passes on one. Its closing line is the last that is printed."""
    print(f"\nCPython {version}", flush=True)
    inside = made(ENVIRONMENTS / version, python)
    command = [inside, "-m", "pytest", "-m", "not slow"]
    return subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
