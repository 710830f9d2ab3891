"""Reading the framework's own stores: what their loaders rebuild is rebuilt, and no pickle runs anything."""

from __future__ import annotations

import base64
import contextlib
import copyreg
import json
import pickle
import subprocess
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from agent_framework import Content, FileCheckpointStorage, Message, WorkflowCheckpoint, WorkflowEvent
from hypothesis import given, settings
from hypothesis import strategies as st

from eventckpt import CheckpointDecodeError, CheckpointTypeNotAllowedError
from eventckpt.allowlist import TypeGate, unpickled
from eventckpt.audit.import_storage import Folder
from eventckpt.pickles import classes_of_states


class Kind(Enum):
    BIG = "big"


@dataclass
class Order:
    @dataclass
    class Line:
        text: str = "tea"

    lines: list[Any] = field(default_factory=list)


ALLOWED = [f"{__name__}:{name}" for name in ("Kind", "Order", "Order.Line")]


@pytest.mark.parametrize(
    "value",
    [
        (1, {2}, frozenset({3})),
        {"a": [1, None, 1.5, "x"], "b": {}},
        b"bytes",
        datetime(2026, 5, 31, tzinfo=UTC),
        Decimal("4.50"),
        UUID(int=5),
        Counter("aab"),
        OrderedDict(a=1),
        deque([1], maxlen=2),
        defaultdict(list, a=[1]),
        type(None),
        int,
        Kind.BIG,
        Order([Order.Line()]),
        {"__pickled__": "mine"},
        Message("user", [Content.from_text("hello")]),
        ValueError("wrong"),
        range(3),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_the_frameworks_loader_rebuilds_is_rebuilt(tmp_path: Path, value: object) -> None:
    types = [*ALLOWED, "builtins:ValueError"]
    old = FileCheckpointStorage(tmp_path, allowed_checkpoint_types=types)
    saved = WorkflowCheckpoint("w", "g", checkpoint_id="one", state={"value": value})
    await old.save(saved)
    folder = Folder(tmp_path, types)
    assert await folder.ids() == ["one"]
    loaded, theirs = (await folder.load("one")).state["value"], (await old.load("one")).state["value"]
    assert type(loaded) is type(theirs)
    assert repr(loaded) == repr(theirs) or vars(loaded).keys() == vars(theirs).keys()


async def test_questions_in_flight_come_over(tmp_path: Path) -> None:
    asked = WorkflowEvent.request_info(
        request_id="q", source_executor_id="clerk", request_data="may we?", response_type=bool
    )
    saved = WorkflowCheckpoint("w", "g", checkpoint_id="one", pending_request_info_events={"q": asked})
    await FileCheckpointStorage(tmp_path).save(saved)
    assert (await Folder(tmp_path).load("one")).pending_request_info_events["q"].data == "may we?"


async def test_a_type_that_is_not_allowed_is_named(tmp_path: Path) -> None:
    old = FileCheckpointStorage(tmp_path, allowed_checkpoint_types=ALLOWED)
    await old.save(WorkflowCheckpoint("w", "g", checkpoint_id="one", state={"value": Order([Order.Line()])}))
    with pytest.raises(CheckpointTypeNotAllowedError) as refused:
        await Folder(tmp_path).load("one")
    assert refused.value.type_key == ALLOWED[1]
    with pytest.raises(CheckpointTypeNotAllowedError) as refused:
        await Folder(tmp_path, ALLOWED[:2]).load("one")
    assert refused.value.type_key == ALLOWED[2]


@pytest.mark.parametrize(
    "document",
    [
        "",
        "[]",
        "{",
        "[" * 100_000,
        '{"state": ' + "9" * 5000 + "}",
        '{"state": ' + "[" * 300 + "]" * 300 + "}",
        '{"a": 1}',
        '{"state": {"__pickled__": 5, "__type__": "a:b"}}',
        '{"state": {"__pickled__": "gARO", "__type__": "a:b"}}',
        '{"state": {"__pickled__": "gAROLg==", "__type__": "a:b"}}',
    ],
    ids=lambda document: document[:50],
)
async def test_what_is_no_checkpoint_is_refused(tmp_path: Path, document: str) -> None:
    (tmp_path / "one.json").write_text(document, encoding="utf-8")
    with pytest.raises(Exception) as refused:  # noqa: PT011 - one of ours or the framework's own, said below
        await Folder(tmp_path).load("one")
    assert type(refused.value) is CheckpointDecodeError or "WorkflowCheckpoint from dict" in str(refused.value)


# Pickles that are programs


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def text(value: str) -> bytes:
    return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()


def called(function: bytes, *args: bytes) -> bytes:
    return function + b"(" + b"".join(args) + b"tR"


def instance(cls: bytes, **state: bytes) -> bytes:
    return cls + b")\x81" + mapping(**state) + b"b"


def mapping(**items: bytes) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


MESSAGE = named("agent_framework._types", "Message")
RUN = "__import__('pathlib').Path('proof').write_text('ran')"


def prey(**state: bytes) -> bytes:
    return instance(MESSAGE, __annotations__=mapping(x=text(RUN)), __name__=text("prey"), **state)


def tool(function: bytes) -> bytes:
    return instance(
        named("agent_framework._tools", "FunctionTool"),
        func=function,
        _instance=prey(),
        name=text("x"),
        max_invocations=b"N",
        max_invocation_exceptions=b"N",
        invocation_count=b"K\0",
        invocation_exception_count=b"K\0",
    )


def imported_by_the_framework(name: str) -> bytes:
    """A global that a module of the framework imported from elsewhere, under the framework's own prefix."""
    import agent_framework  # noqa: F401 - so that its modules are there

    for module, found in sorted(sys.modules.items()):
        if module.startswith("agent_framework.") and getattr(found, name, None) is not None:
            return named(module, name)
    return named("agent_framework._tools", name)


PICKLES = {
    "os.system": called(named("posix", "system"), text("touch proof")),
    "os.system by its other name": called(named("os", "system"), text("touch proof")),
    "builtins.eval": called(named("builtins", "eval"), text(RUN)),
    "builtins.exec through getattr": called(
        called(named("builtins", "getattr"), named("builtins", "object"), text("__subclasses__"))
    ),
    "a partial that the framework imported": called(imported_by_the_framework("partial"), named("builtins", "eval")),
    "a path that the framework imported": called(imported_by_the_framework("Path"), text("/")),
    "code that the framework imported": named("types", "CodeType"),
    "a class of its own": called(named("builtins", "type"), text("X"), b"(" + named("builtins", "object") + b"t", b"}"),
    "a subclass of what is allowed": called(named("builtins", "getattr"), MESSAGE, text("__init__")),
    "the framework's own unpickler": named("agent_framework._workflows._checkpoint_encoding", "_RestrictedUnpickler"),
    "a dict that asks an object for its keys": called(
        named("builtins", "dict"),
        instance(MESSAGE, keys=tool(named("agent_framework._workflows._functional", "FunctionalWorkflow"))),
    ),
    "a state that asks an attribute for get": instance(
        named("agent_framework._types", "Content"),
        type=text("function_call"),
        additional_properties=instance(
            MESSAGE, get=tool(named("agent_framework._workflows._function_executor", "FunctionExecutor"))
        ),
    ),
}

# Pickles that change the process


def with_slots(target: bytes, **attributes: bytes) -> bytes:
    """A state that sets attributes one by one, whatever the target is."""
    return target + b"(N" + mapping(**attributes) + b"tb"


KIND = f"c{__name__}\nKind\n".encode()
MEMBER = called(named("builtins", "getattr"), KIND, text("BIG"))
NESTED = called(named("builtins", "getattr"), f"c{__name__}\nOrder\n".encode(), text("Line"))

CHANGES = {
    "a class": with_slots(MESSAGE, evil=text("yes")),
    "a class by its texts": with_slots(text("agent_framework._types") + text("Message") + b"\x93", evil=text("yes")),
    "a class out of the memo": MESSAGE + b"q\0" + b"0" + with_slots(b"h\0", evil=text("yes")),
    "a class twice on the stack": with_slots(MESSAGE + b"2", evil=text("yes")),
    "a class behind a mark that was taken back": with_slots(MESSAGE + b"(0", evil=text("yes")),
    "a class inside a class": with_slots(NESTED, evil=text("yes")),
    "a class inside a class by an instance": called(
        named("copyreg", "_reconstructor"),
        instance(MESSAGE, __new__=named("builtins", "getattr")),
        instance(MESSAGE),
        text("Line"),
    )
    + b"(N}tb",
    "how checkpoints are made": with_slots(
        named("agent_framework._workflows._checkpoint", "WorkflowCheckpoint"), from_dict=named("builtins", "dict")
    ),
    "a function": with_slots(named("copyreg", "_reconstructor"), __defaults__=b")"),
    "our own function": with_slots(named("builtins", "type"), __defaults__=b")"),
    "getattr": with_slots(named("builtins", "getattr"), evil=b"N"),
    "a member": with_slots(MEMBER, evil=text("yes")),
    "a member by its value": with_slots(called(KIND, text("big")), evil=text("yes")),
    "a member by its class": with_slots(KIND + text("big") + b"\x85\x81", evil=text("yes")),
    "the items of a class": MESSAGE + text("a") + text("b") + b"s",
    "an extension": b"\x82\x01",
    "an object outside": b"Px\n",
    "a buffer outside": b"\x97",
    "a call of what was made": called(instance(MESSAGE)),
}


@pytest.mark.parametrize("target", CHANGES)
def test_a_pickle_that_would_change_the_process_is_refused_and_changes_nothing(target: str) -> None:
    before = [(cls, dict(vars(cls))) for cls in (Message, WorkflowCheckpoint, Order.Line, Kind)]
    member, helpers = dict(vars(Kind.BIG)), [dict(vars(copyreg._reconstructor)), copyreg._reconstructor.__defaults__]  # type: ignore[attr-defined]
    with pytest.raises(CheckpointDecodeError):
        unpickled(b"\x80\x02" + CHANGES[target] + b".", TypeGate(ALLOWED))
    assert [(cls, dict(vars(cls))) for cls, _ in before] == before
    assert dict(vars(Kind.BIG)) == member
    assert [dict(vars(copyreg._reconstructor)), copyreg._reconstructor.__defaults__] == helpers  # type: ignore[attr-defined]


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize(
    "value",
    [
        Order([Order.Line("a"), Order.Line("b")]),
        [Order()] * 3,
        Kind.BIG,
        {"a": (1, 2.5, -7, 1 << 70, b"b" * 300, "t" * 2000, None, True)},
        OrderedDict([(frozenset({1}), {2, 3})]),
        Message("user", [Content.from_text("hello")]),
        datetime(2026, 5, 31, tzinfo=UTC),
        deque([1], maxlen=2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_pickler_writes_is_read_in_each_protocol(value: object, protocol: int) -> None:
    data = pickle.dumps(value, protocol)
    if b"__builtin__" in data or b"copy_reg" in data or b"_codecs" in data:
        pytest.skip("names of Python 2, which the framework's loader does not take either")
    loaded = unpickled(data, TypeGate(ALLOWED))
    assert repr(loaded) == repr(value) or vars(loaded).keys() == vars(value).keys()


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_pickle_or_refused(data: bytes) -> None:
    with contextlib.suppress(CheckpointDecodeError):
        classes_of_states(data)


READER = """
import asyncio, importlib, sys
from pathlib import Path
import agent_framework, eventckpt
for module in sys.argv[2:]:  # what is admitted may be imported, which executes modules
    importlib.import_module(module)
from eventckpt.audit.import_storage import Folder
from eventckpt.errors import CheckpointDecodeError, CheckpointTypeNotAllowedError
folder = Folder(Path(sys.argv[1]))
seen = []
names = asyncio.run(folder.ids())
watched = ("exec", "compile", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect", "ctypes")
sys.addaudithook(lambda event, args: seen.append((event, args)) if event.startswith(watched) else None)
for name in names:
    try:
        folder._load(Path(sys.argv[1], name + ".json"))
        print(name, "was read")
    except (CheckpointDecodeError, CheckpointTypeNotAllowedError) as error:
        print(name, "was refused:", str(error).splitlines()[0])
assert not seen, seen
"""


def test_no_pickle_of_a_hostile_folder_runs_anything(tmp_path: Path) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    for number, pickled in enumerate(PICKLES.values()):
        marked = {
            "__pickled__": base64.b64encode(b"\x80\x02" + pickled + b".").decode(),
            "__type__": "agent_framework._types:Message",
        }
        fields = WorkflowCheckpoint("w", "g", checkpoint_id=str(number)).to_dict() | {"state": {"value": marked}}
        (folder / f"{number}.json").write_text(json.dumps(fields), encoding="utf-8")
    modules = sorted(name for name in sys.modules if name.startswith("agent_framework."))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", READER, str(folder), *modules],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("was refused") == len(PICKLES), done.stdout
    assert not (tmp_path / "proof").exists()
