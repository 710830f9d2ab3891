"""Whose files copies and restored stores are, and what is no file at all."""
# ruff: noqa: ASYNC240 - the files are small and local, and nothing else runs in the loop meanwhile

from __future__ import annotations

import os
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from ...engines import SqliteEngine
from ...stores.sqlite.helpers import files
from ..conftest import Cli
from .backups import cli_process, events_of, written

WITHOUT_ROOTS_RIGHTS = """
import ctypes, os, sys
if os.getuid() == 0:  # permissions are looked at for root, too
    for right in (1, 2):  # to write, and to read, whatever the permissions say
        ctypes.CDLL(None).prctl(24, right, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-m", "eventckpt.cli", *sys.argv[1:]])
"""


@pytest.mark.slow
async def test_a_backup_that_can_only_be_read_is_read_and_verified(
    cli: Cli, path: Path, file: Path, tmp_path: Path
) -> None:
    events = await written(path, 3)
    await cli("backup", str(file))
    content = file.read_bytes()
    file.chmod(0o444)
    file.parent.chmod(0o555)
    for words in (["runs"], ["verify", "--all"], ["history", "run"]):
        done = cli_process(*words, store=file, start=WITHOUT_ROOTS_RIGHTS)
        assert done.returncode == 0, done.stderr
    done = cli_process("doctor", "--write", store=file, start=WITHOUT_ROOTS_RIGHTS)
    assert "schema: version 2, as it is made" in done.stdout
    assert "cannot be opened for writing" in done.stdout
    file.parent.chmod(0o755)
    assert file.read_bytes() == content
    restored = tmp_path / "restored.db"
    assert (await Cli(SqliteEngine(restored))("restore", str(file), "--yes")).code == 0
    assert await events_of(restored) == events
    assert restored.stat().st_mode & 0o600 == 0o600, "a store is written to"


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root gives files to others")
class TestOwners:
    """The user 1234 owns the store; its files are for the group 1235 as well, which the user 1236 is of."""

    OTHER_USER = """
        import os, sys
        os.setgroups([1235] if sys.argv[1] == "in the group" else [])
        from eventckpt.cli import app
        os.setgid(1236)
        real, os.chown = os.chown, lambda *args: refused(*args)
        def refused(path, uid, gid):  # what the system answers to who is not root
            if uid not in (-1, os.stat(path).st_uid) or gid not in (-1, os.getgid(), *os.getgroups()):
                raise PermissionError(1, "Operation not permitted", str(path))
            real(path, uid, gid)
        app(sys.argv[2:])
    """

    def other(self, member: str, *words: str, store: Path) -> subprocess.CompletedProcess[str]:
        return cli_process(member, *words, store=store, start=textwrap.dedent(self.OTHER_USER))

    @pytest.fixture(autouse=True)
    async def owned(self, path: Path) -> None:
        await written(path, 2)
        os.chown(path, 1234, 1235)
        path.chmod(0o664)

    @pytest.mark.parametrize(("member", "group"), [("in the group", 1235), ("in none", 1236)])
    async def test_a_backup_by_another_user_is_theirs_alone(
        self, path: Path, file: Path, member: str, group: int
    ) -> None:
        done = self.other(member, "backup", str(file), store=path)
        assert done.returncode == 0, done.stderr
        state = file.stat()
        assert (state.st_uid, state.st_gid, state.st_mode & 0o777) == (0, group, 0o600)
        assert len(await events_of(file)) == 2

    @pytest.mark.parametrize("member", ["in the group", "in none"])
    async def test_a_store_is_not_replaced_by_a_file_that_its_owner_could_not_use(
        self, path: Path, file: Path, member: str
    ) -> None:
        await written(file, 1)
        before = files(path.parent)
        done = self.other(member, "restore", str(file), "--yes", store=path)
        assert done.returncode == 4
        assert "belongs to the user 1234" in done.stderr
        assert files(path.parent) == before

    async def test_root_gives_copies_the_owner_of_the_store(self, path: Path, file: Path) -> None:
        assert cli_process("backup", str(file), store=path).returncode == 0
        assert cli_process("restore", str(file), "--yes", store=path).returncode == 0
        modes = {path: 0o664, file: 0o600}  # who has opened a store to a group has not opened every copy
        for at, mode in modes.items():
            assert (at.stat().st_uid, at.stat().st_gid, at.stat().st_mode & 0o777) == (1234, 1235, mode)


def a_loop(place: Path) -> None:
    place.symlink_to(place)


def a_pipe(place: Path) -> None:
    os.mkfifo(place)


@pytest.mark.skipif(os.name != "posix", reason="the kinds of files are those of POSIX")
@pytest.mark.parametrize(
    "make",
    [
        a_loop,  # Python versions differ in what they make of it
        pytest.param(a_pipe, marks=pytest.mark.slow),
        pytest.param(Path.mkdir, marks=pytest.mark.slow),
    ],
    ids=lambda make: make.__name__,
)
@pytest.mark.parametrize("words", [["backup", "FILE"], ["backup", "FILE", "--force"], ["restore", "FILE", "--yes"]])
@pytest.mark.parametrize("role", ["the file", "the store"])
async def test_what_is_no_file_is_neither_copied_nor_replaced_nor_waited_for(
    path: Path, file: Path, make: Callable[[Path], None], words: list[str], role: str
) -> None:
    odd, good = file.with_name("odd"), file
    await written(good, 1)
    await written(path, 2)
    make(odd)
    kind = odd.lstat()
    given = {"FILE": str(odd if role == "the file" else good)}
    done = cli_process(*(given.get(word, word) for word in words), store=odd if role == "the store" else path)
    assert (done.returncode, "Traceback" in done.stderr) == (4, False), done.stderr
    assert (odd.lstat().st_mode, odd.lstat().st_ino) == (kind.st_mode, kind.st_ino)
    assert sorted(place.name for place in file.parent.iterdir()) == [good.name, "odd"]
    assert set(files(path.parent)) == {path.name}
