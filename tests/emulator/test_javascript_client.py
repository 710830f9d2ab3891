"""The test server, asked by Microsoft's SDK for JavaScript: tests/javascript/client.mjs, and what it prints.

Where node or npm is missing, or the package cannot be had, this is skipped and says why. In CI, which sets the variable
CI, a package that cannot be had fails: else nobody would notice that the second client has not been asked.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

from ..cosmos_emulator import CosmosEmulator, Switches

pytestmark = pytest.mark.slow  # node, and a package that it installs

FOLDER = Path(__file__).parent.parent / "javascript"
OLDEST_NODE = 20
"""What the pinned package asks for in its `engines`."""


def node() -> str:
    """A node that is new enough."""
    found = shutil.which("node")
    if found is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not found")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.strip().lstrip("v").partition(".")[0]) < OLDEST_NODE:
        pytest.skip(f"node {version.strip()} is older than {OLDEST_NODE}")
    return found


def give_up(reason: str) -> NoReturn:
    """Skips the test, or fails it where CI runs it."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def install() -> None:
    """What package-lock.json names, below the folder of the script, where git ignores it; once for each lock."""
    stamp = FOLDER / "node_modules" / ".made-from"
    made_from = hashlib.sha256((FOLDER / "package-lock.json").read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text() == made_from:
        return
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(FOLDER)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        give_up(f"npm cannot install the package: {ended.stderr[-200:]}")
    stamp.write_text(made_from)


async def printed(*arguments: str) -> tuple[int | None, list[str]]:
    """What the script ends with, and its lines."""
    script = await asyncio.create_subprocess_exec(
        node(),
        FOLDER / "client.mjs",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(300):
        said, _ = await script.communicate()
    return script.returncode, said.decode().splitlines()


def sentences() -> list[str]:
    """Of every check that is written."""
    names = re.findall(r'^import "\./(\w+\.mjs)";$', (FOLDER / "client.mjs").read_text(encoding="utf-8"), re.MULTILINE)
    texts = [(FOLDER / name).read_text(encoding="utf-8") for name in names]
    return [sentence for text in texts for sentence in re.findall(r'^check\("(.+?)",', text, re.MULTILINE)]


async def test_every_check_of_the_javascript_client_holds() -> None:
    node()
    install()
    async with CosmosEmulator(switches=Switches()) as emulator:
        code, lines = await printed(emulator.endpoint, emulator.key)

    written = sentences()
    assert lines == [*(f"ok      {sentence}" for sentence in written), f"{len(written)} checks, 0 failed"]
    assert code == 0
    assert len(written) > 30


async def test_a_check_that_fails_is_told_and_ends_the_script_with_1() -> None:
    """A server that gives every write of one kind a wrong status is noticed."""
    node()
    install()
    async with CosmosEmulator(switches=Switches()) as emulator:
        emulator.faults.respond(403, kind="patch_item")
        code, lines = await printed(emulator.endpoint, emulator.key)

    assert code == 1
    failed = [line for line in lines if line.startswith("failed")]
    assert failed
    assert all("patch" in line for line in failed)
    assert lines[-1] == f"{len(sentences())} checks, {len(failed)} failed"


async def test_a_server_that_obeys_no_session_token_is_noticed() -> None:
    node()
    install()
    async with CosmosEmulator(switches=Switches(sessions=False)) as emulator:
        code, lines = await printed(emulator.endpoint, emulator.key)

    assert code == 1
    [failed] = [line for line in lines if line.startswith("failed")]
    assert "a session token is obeyed" in failed


@pytest.mark.parametrize(("variable", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_a_package_that_cannot_be_had_fails_in_ci_and_is_skipped_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, outcome: type[BaseException]
) -> None:
    (tmp_path / "package-lock.json").write_text("{}")
    monkeypatch.setattr(f"{__name__}.FOLDER", tmp_path)
    monkeypatch.setenv("CI", variable)
    refused = subprocess.CompletedProcess(["npm"], 1, "", "no such package")
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: refused)
    with pytest.raises(outcome, match="npm cannot install the package: no such package"):
        install()


def test_no_registry_is_named_in_what_is_committed() -> None:
    assert "://" not in (FOLDER / "package-lock.json").read_text(encoding="utf-8")
