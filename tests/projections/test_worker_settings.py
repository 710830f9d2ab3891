"""What a worker and its tools are given wrongly: one sentence, the documented exit code, and never a traceback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from projections.worker import app
from projections.worker.http import DEFAULT_PORT

from .commands import ended, invoked, running
from .rig import Rig

HOSTILE = "\x1b]0;owned\x07[/x]\u202e"
KEY = "C2y6yDjf5R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw=="
COSMOS = {"AZURE_COSMOS_DATABASE_NAME": "d", "AZURE_COSMOS_CONTAINER_NAME": "c", "AZURE_COSMOS_KEY": KEY}
TOOLS = ("status", "compare", "rebuild", "unpark", "reset")

OPTIONS = [
    ("--host", "nowhere.invalid"),
    ("--host", "192.0.2.1"),
    ("--host", ""),
    ("--host", "x" * 300),
    ("--host", "a\x00b"),
    ("--host", HOSTILE),
    ("--port", "99999"),
    ("--port", "-1"),
    ("--port", "http"),
    ("--port", HOSTILE),
    ("--log-level", "LOUD"),
    ("--log-level", HOSTILE),
    ("--log-level", ""),
    ("--on-error", "ignore"),
    ("--on-error", HOSTILE),
    ("--scaler-name", "eventckpt-latest"),
    ("--scaler-name", "eventckpt-latest-2"),
    ("--scaler-name", " "),
    ("--scaler-name", HOSTILE),
    ("--scaler-name", "a" * 101),
    ("--page-size", str(2**70)),
    ("--page-size", "0"),
    ("--max-attempts", "0"),
    ("--fence-margin", "30"),
    ("--poll-interval", "120"),  # an idle range would not count as read
    ("--poll-interval", "30"),
    ("--max-poll-age", "43"),
    *(
        (f"--{name}", value)
        for name in (
            *("max-poll-age", "max-stall", "store-timeout", "poll-interval", "acquire-interval", "renew-interval"),
            "expiry",
        )
        for value in ("0", "-1", "nan", "inf", "soon")
    ),
]


def is_one_sentence(errors: str) -> bool:
    """What a person is told; a command line that cannot be parsed is shown its usage before it."""
    lines = [line for line in errors.splitlines() if line and not line.startswith(("Usage: ", "Try "))]
    return len(lines) == 1 and lines[0].isprintable() and "Traceback" not in errors


@pytest.mark.parametrize(("option", "value"), OPTIONS, ids=ascii)
def test_a_wrong_option_is_one_sentence(tmp_path: Path, option: str, value: str) -> None:
    code, _, errors = invoked("run", "--store", str(tmp_path / "events.db"), option, value)
    assert code == 2
    assert is_one_sentence(errors), errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["run", *TOOLS])
@pytest.mark.parametrize(
    ("store", "settings"),
    [
        ("", {}),
        ("https://host/", {}),
        ("https://host/", {**COSMOS, "AZURE_COSMOS_DATABASE_NAME": "db\n"}),
        ("https://host/", {**COSMOS, "AZURE_COSMOS_CONTAINER_NAME": ".."}),
        ("https://host/", {**COSMOS, "AZURE_COSMOS_KEY": f"no base64!{HOSTILE}"}),
        ("https://host/path", COSMOS),
        (f"https://{HOSTILE}/", COSMOS),
        (f"AccountEndpoint=https://x/;AccountKey={KEY};", {}),
        (f"https://me:{KEY[:30]}@x.documents.azure.com/", {}),
    ],
)
def test_a_store_that_is_none_is_one_sentence(command: str, store: str, settings: dict[str, str]) -> None:
    code, _, errors = invoked(command, *(["--store", store] if store else []), **settings)
    assert code == 2
    assert is_one_sentence(errors), errors
    assert KEY[:6] not in errors


@pytest.mark.parametrize("command", TOOLS)
@pytest.mark.parametrize("name", ["missing.db", f"missing{HOSTILE}.db", "folder/missing.db", "text.db", "."])
def test_a_store_that_cannot_be_read_is_one_sentence(tmp_path: Path, command: str, name: str) -> None:
    (tmp_path / "text.db").write_text("no database at all, but some text that is long enough")
    code, _, errors = invoked(command, "--store", str(tmp_path / name))
    assert code == 4
    assert is_one_sentence(errors), errors
    assert [path.name for path in tmp_path.iterdir()] == ["text.db"]


def test_a_worker_ends_where_its_store_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database at all, but some text that is long enough")
    code, _, errors = invoked("run", "--port", "0", "--store", str(tmp_path / "text.db"))
    assert code == 4
    assert errors.splitlines()[-1].startswith("eventckpt-projector: ")
    assert "Traceback" not in errors


@pytest.mark.parametrize("suffix", ["", "-wal", "-journal"])
def test_a_worker_serves_nothing_where_its_store_is_no_file(tmp_path: Path, suffix: str) -> None:
    os.mkfifo(tmp_path / f"events.db{suffix}")
    code, _, errors = invoked("run", "--port", "0", "--store", str(tmp_path / "events.db"))
    assert code == 4
    assert is_one_sentence(errors), errors
    assert "serving" not in errors


@pytest.mark.parametrize(
    ("program", "extra", "module"),
    [
        *(("eventckpt.cli", "cli", module) for module in ("rich", "typer")),
        *(("projections.worker", "projector", module) for module in ("prometheus_client", "rich", "typer")),
    ],
)
def test_a_missing_extra_is_one_sentence(program: str, extra: str, module: str) -> None:
    code = f"import sys; sys.modules[{module!r}] = None\nfrom {program} import app\napp()"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert is_one_sentence(ran.stderr), ran.stderr
    assert f"pip install '.[{extra}]' in a checkout" in ran.stderr


def test_a_missing_sdk_is_one_sentence() -> None:
    code = "import sys; sys.modules['azure'] = None\nfrom projections.worker import app\napp()"
    ran = subprocess.run(
        [sys.executable, "-c", code, "run", "--store", "https://host/"], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert is_one_sentence(ran.stderr), ran.stderr
    assert "cosmos extra" in ran.stderr


def test_the_help_says_what_the_exit_codes_mean() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert "Exit codes: 0 all is well" in " ".join(result.stdout.split())


# Ports


@contextmanager
def taken(port: int) -> Generator[int, None, None]:
    """A port that another process has; where somebody else has it already, that is as well."""
    with closing(socket.socket()) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            other.bind(("127.0.0.1", port))
            other.listen()
        except OSError:
            assert port
        yield other.getsockname()[1] if port == 0 else port


async def test_where_the_default_port_is_taken_a_free_one_is_served_and_said(sqlite_rig: Rig) -> None:
    with taken(DEFAULT_PORT):
        async with running(sqlite_rig, port=None) as worker:
            assert not worker.address.endswith(f":{DEFAULT_PORT}")
            assert (await worker.page("/livez"))[0] == 200
            assert f"Port {DEFAULT_PORT} is taken" in await worker.said("is taken")


async def test_a_named_port_that_is_taken_is_one_sentence(sqlite_rig: Rig) -> None:
    with taken(0) as port:
        code, _, errors = await ended(sqlite_rig, "run", "--port", str(port))
    assert code == 2
    assert f"The port {port} of 127.0.0.1 is taken by another process" in errors
    assert is_one_sentence(errors), errors
