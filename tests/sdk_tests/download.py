"""Fetches the source distribution of azure-cosmos in the version that is installed, and unpacks its tests."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
CACHE = ROOT / ".sdk-tests"
PACKAGE = "azure-cosmos"


def tests() -> Path:
    """The folder with Microsoft's tests; downloaded once for each version."""
    release = version(PACKAGE)
    folder = CACHE / f"azure_cosmos-{release}" / "tests"
    if not folder.is_dir():
        CACHE.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        run = subprocess.run([*command, "--no-binary", PACKAGE, "--dest", CACHE, f"{PACKAGE}=={release}"], check=False)
        if run.returncode != 0:
            sys.exit(f"pip cannot download the source distribution of {PACKAGE} {release}.")
        with tarfile.open(CACHE / f"azure_cosmos-{release}.tar.gz") as archive:
            archive.extractall(CACHE, filter="data")
    return folder
