"""Both programs exit alike, and say so: each code is met in each program that can end with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eventckpt import SqliteEventStore, StreamId, errors
from eventckpt.exit_codes import FOUND_WRONG, MEANINGS, NO_SUCH_NAME, STATE, STORE, TAKEN, USAGE, ending, exit_code
from eventckpt.location import ApplicationError, LocationError
from eventckpt.stores.conformance import make_event

from .programs import PROGRAMS, called

LOOK = {"eventckpt": ["runs"], "eventckpt-projector": ["status"]}
CHECK = {"eventckpt": ["verify", "--all", "--projection"], "eventckpt-projector": ["compare"]}
KEY = "C2y6yDjf5R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw=="
COSMOS = {
    "EVENTCKPT_STORE": "https://account.example/",
    "AZURE_COSMOS_DATABASE_NAME": "d",
    "AZURE_COSMOS_CONTAINER_NAME": "c",
    "AZURE_COSMOS_KEY": KEY,
}

WRONG_SETTINGS: dict[str, dict[str, str]] = {
    "no store": {},
    "a blank endpoint": {"AZURE_COSMOS_ENDPOINT": " "},
    "a path as endpoint": {"AZURE_COSMOS_ENDPOINT": "checkpoints.db"},
    "another scheme": {"EVENTCKPT_STORE": "sqlite:///checkpoints.db"},
    "a connection string": {"EVENTCKPT_STORE": f"AccountEndpoint=https://a.example/;AccountKey={KEY};"},
    "a key": {"EVENTCKPT_STORE": KEY},
    "no database": {name: value for name, value in COSMOS.items() if "DATABASE" not in name},
    "no container": COSMOS | {"AZURE_COSMOS_CONTAINER_NAME": ""},
    "a container that cannot be": COSMOS | {"AZURE_COSMOS_CONTAINER_NAME": "a/b"},
    "a key that is none": COSMOS | {"AZURE_COSMOS_KEY": "no base64!"},
    "an identity over http": {name: value for name, value in COSMOS.items() if "KEY" not in name}
    | {"EVENTCKPT_STORE": "http://account.example/"},
}


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> str:
    return request.param


async def test_where_all_is_well_the_code_is_0(program: str, tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with SqliteEventStore(path) as store:
        await store.append(make_event(StreamId("orders", "order-1"), 1))
    assert (await called(program, LOOK[program], {"EVENTCKPT_STORE": str(path)})).code == 0


async def test_what_is_found_wrong_is_1(program: str, tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with SqliteEventStore(path) as store:
        await store.append(make_event(StreamId("orders", "order-1"), 1))  # which no projector has read
    assert (await called(program, CHECK[program], {"EVENTCKPT_STORE": str(path)})).code == FOUND_WRONG


@pytest.mark.parametrize("settings", WRONG_SETTINGS.values(), ids=WRONG_SETTINGS)
async def test_a_setting_that_is_missing_or_wrong_is_2_and_one_line_without_a_secret(
    program: str, settings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    printed = await called(program, LOOK[program], settings)
    assert printed.code == USAGE
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert printed.err.startswith(f"{program}: ")
    assert KEY[:6] not in printed.err
    assert [*tmp_path.iterdir()] == []  # noqa: ASYNC240 - nothing else runs


async def test_a_command_line_that_is_wrong_is_2(program: str) -> None:
    assert (await called(program, [*LOOK[program], "--no-such-option"], {})).code == USAGE
    assert (await called(program, ["no-such-command"], {})).code == USAGE


async def test_a_store_that_cannot_be_read_is_4(program: str, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database at all, but some text that is long enough")
    for name in ("missing.db", "text.db", "."):
        assert (await called(program, LOOK[program], {"EVENTCKPT_STORE": str(tmp_path / name)})).code == STORE


def test_every_error_has_the_code_of_its_kind() -> None:
    """A new error is a store's (4), unless it is said here of what else it is."""
    kinds: dict[str, int | None] = {
        "AmbiguousNameError": NO_SUCH_NAME,
        "RunNotFoundError": NO_SUCH_NAME,
        "CheckpointNotFoundError": NO_SUCH_NAME,
        "CheckpointDecodeError": STATE,
        "CheckpointTypeNotAllowedError": STATE,
        "CheckpointEncodeError": FOUND_WRONG,
        "CheckpointConflictError": FOUND_WRONG,
        "SessionConflictError": FOUND_WRONG,
        "ClaimLostError": FOUND_WRONG,
        "RunNotRemovedError": FOUND_WRONG,
        "RunClaimedError": TAKEN,
        "RequestNotPendingError": TAKEN,
        "ResponseTypeError": USAGE,
        "AnswerMissingError": USAGE,
        "RetentionPolicyError": USAGE,
        "WorkflowExitError": FOUND_WRONG,
        "WorkflowRunningError": FOUND_WRONG,
        "UnsupportedFrameworkError": FOUND_WRONG,
        "StreamConflict": None,  # no command shows it: a fact that a storage turns into a conflict
    }
    found: dict[str, Any] = {name: exit_code(made(getattr(errors, name))) for name in errors.__all__}
    assert found == {name: kinds.get(name, STORE) for name in errors.__all__}
    assert exit_code(LocationError("no store")) == USAGE
    assert exit_code(ApplicationError("no module")) == STORE
    assert exit_code(ZeroDivisionError()) is None, "a fault of the program"


def made(kind: type[Exception]) -> Exception:
    """An error of this class, whatever it is made with."""
    return kind.__new__(kind)


async def test_the_help_of_both_says_what_the_codes_mean(program: str) -> None:
    said = " ".join((await called(program, ["--help"], {"COLUMNS": "200"})).out.split())
    assert MEANINGS in said


@pytest.mark.parametrize("code", [0, 1, None, "no\x1b[2J database"])
def test_code_of_an_application_that_ends_the_program_is_told_and_never_passes_for_its_end(code: object) -> None:
    told: list[tuple[int, str]] = []
    with pytest.raises(SystemExit) as ended, ending(lambda as_code, error: told.append((as_code, str(error)))):
        raise SystemExit(code)
    [(as_code, said)] = told
    assert (ended.value.code, as_code) == (STORE, STORE)
    assert said.startswith("Code of the application ended the program: SystemExit: ")
    assert "\x1b" not in said
