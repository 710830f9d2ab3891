"""A shell, to which commands are given as they are shown."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess

import pytest

__all__ = ["ODD_NAMES", "needs_a_shell", "words_of"]

ODD_NAMES = ["\t tab", "evil\x1b[2J\r\n'x'\\y", "\u202e\u2066הזמנה", "-rf", "\x9b1m", "a'b $(c)", "\U000e0001x"]
_BASH = shutil.which("bash")

needs_a_shell = pytest.mark.skipif(_BASH is None, reason="no shell to give the words back")


async def words_of(command: str) -> list[str]:
    """The words behind `eventckpt` that a shell gives the program for a command as it is shown, all of it."""
    assert _BASH is not None
    assert command.isprintable()
    script = f"eventckpt() {{ printf '%s\\0' \"$@\"; }}; {command}"
    env = {**os.environ, "LC_ALL": "C.UTF-8"}
    process = await asyncio.create_subprocess_exec(_BASH, "-c", script, stdout=subprocess.PIPE, env=env)
    return (await process.communicate())[0].decode().split("\0")[:-1]
