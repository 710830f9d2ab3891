"""How the packages hang together: what imports what, what nothing imports, who tries again, how large a part may be."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*ROOT.glob("eventckpt/**/*.py"), *ROOT.glob("projections/**/*.py")])

LONGEST_FILE: Final = 500
LONGEST_FUNCTION: Final = 60
LONGEST_FACE: Final = 40
"""Lines; of a face those beside its list of names, and beside the imports that bring them."""

LAYERS: list[set[str]] = [
    {
        "clock",
        "errors",
        "event_parts",
        "lru",
        "moments",
        "records",
        "side_by_side",
        "text",
        "threads",
        "traceparent",
        "version",
    },
    {"events", "log", "pickles", "settings"},
    {"allowlist", "chain", "closing", "delta", "event_keys"},
    {"removals"},
    {"runs"},
    {"codec", "stores"},
    {"location", "storage", "testing"},
    {"history"},
    {"audit", "exit_codes"},
    {"answers", "command_line", "rendering"},
    {"cli", "hosts", "web"},
]
"""Each may import what is below it, and nothing beside it."""

HANDS_ON = {
    "eventckpt/__init__.py",  # the public names, from everywhere
    "eventckpt/stores/conformance.py",  # the suites, which 0.1.0 had there
}

COSMOS = "eventckpt/stores/cosmos/"
HOSTS = "eventckpt/hosts/"
WEB = "eventckpt/web/"
ABOVE_PROJECTIONS = f"{WEB}program.py"
"""The program whose page about operations is of the projector: it alone may know it, where it asks."""
COMMANDS = ("eventckpt/cli/", "eventckpt/command_line.py", "projections/worker/")

AT_HOME: Final[dict[str, tuple[str, ...]]] = {
    "azure": (
        COSMOS,
        "eventckpt/storage/cosmos.py",
        "eventckpt/history/cosmos.py",
        "eventckpt/history/cosmos_sessions.py",
        "eventckpt/location.py",
        f"{HOSTS}foundry.py",
    ),
    "aiohttp": (COSMOS,),
    "agent_framework_ag_ui": (f"{HOSTS}ag_ui.py",),
    "agent_framework_foundry_hosting": (f"{HOSTS}foundry.py",),
    "sqlite3": ("eventckpt/stores/sqlite/",),
    "typer": (*COMMANDS, f"{WEB}program.py"),
    "click": COMMANDS,
    "rich": COMMANDS,
    "starlette": (WEB,),
    "jinja2": (WEB,),
    "markupsafe": (WEB,),
    "uvicorn": (f"{WEB}serving.py",),
    "prometheus_client": ("projections/worker/",),
    "pytest": ("eventckpt/testing/",),
}
"""What only a part of the packages needs, and which part that is: everything else goes without it."""

NAME_ENGINES: Final = (
    "eventckpt/__init__.py",  # the public names
    "eventckpt/location.py",  # opens whichever store it is
    "eventckpt/storage/cosmos.py",  # the ready-made storages
    "eventckpt/storage/sqlite.py",
    "eventckpt/history/cosmos.py",
    "eventckpt/history/cosmos_sessions.py",
    "eventckpt/history/sqlite.py",
    "eventckpt/history/sqlite_sessions.py",
    "eventckpt/cli/backup.py",  # backups are copies of a file
    "eventckpt/cli/space.py",  # a file is written anew
)
"""Who may name an engine, beside its own folder."""

LOADERS_THAT_RUN_CODE = {
    "_pickle",
    "cPickle",
    "cloudpickle",
    "dill",
    "joblib",
    "jsonpickle",
    "marshal",
    "pickle",
    "pickletools",
    "shelve",
}


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def _is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not _is_for_type_checkers(child):
            yield child
            yield from _statements(child)


def imports(path: Path, source: str | None = None) -> set[str]:
    """The absolute names of all that a module imports, wherever in it; of `from a import b`, `a.b`."""
    package = path.relative_to(ROOT).parent.parts
    found: set[str] = set()
    for node in _statements(_tree(path) if source is None else ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            found.update(f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            found.add(ast.literal_eval(node.args[0]) if isinstance(node.args[0], ast.Constant) else "?")
    return found


def _is_module(name: str) -> bool:
    at = ROOT.joinpath(*name.split("."))
    return at.with_suffix(".py").is_file() or (at / "__init__.py").is_file()


def _layer(part: str) -> int:
    for rank, layer in enumerate(LAYERS):
        if part in layer:
            return rank
    raise AssertionError(f"eventckpt.{part} has no place in LAYERS yet; give it the lowest that it can have.")


def upward_imports(path: Path, source: str | None = None) -> list[str]:
    """What a module of eventckpt imports from beside or above its own layer."""
    own = path.relative_to(ROOT / "eventckpt").parts[0].removesuffix(".py")
    wrong: list[str] = []
    for name in sorted(imports(path, source)):
        parts = name.split(".")
        if parts[0] == "projections":
            if _name(path) != ABOVE_PROJECTIONS:
                wrong.append(name)
        elif parts[0] == "eventckpt":
            part = parts[1] if len(parts) > 1 and _is_module(".".join(parts[:2])) else None
            if part is None or (part != own and _layer(part) >= _layer(own)):
                wrong.append(name)
    return wrong


def test_the_sources_are_found_and_read() -> None:
    """The control: the tests below hold for nothing if these do not."""
    encoder = ROOT / "eventckpt/codec/encoder.py"
    assert encoder in SOURCES
    assert {"eventckpt.allowlist.TypeGate", "eventckpt.codec.forms", "copyreg"} <= imports(encoder)
    source = (
        "import pickle as p\nfrom ... import projections\nfrom ..audit import x\nfrom . import forms\n"
        "def f():\n    import importlib\n    importlib.import_module('dill')\n"
    )
    assert {"pickle", "eventckpt.audit.x", "eventckpt.codec.forms", "dill"} <= imports(encoder, source)
    assert upward_imports(encoder, source) == ["eventckpt.audit.x"]
    assert upward_imports(encoder, "from .. import CheckpointCodec\nimport projections.latest\nimport eventckpt\n") == [
        "eventckpt",
        "eventckpt.CheckpointCodec",
        "projections.latest",
    ]


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_no_module_imports_a_loader_that_runs_code(path: Path) -> None:
    assert not {name.partition(".")[0] for name in imports(path)} & LOADERS_THAT_RUN_CODE


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_only_the_allow_list_touches_the_internals_of_the_framework(path: Path) -> None:
    internals = {
        name
        for name in imports(path)
        if name.startswith("agent_framework") and any(part.startswith("_") for part in name.split("."))
    }
    if _name(path) == "eventckpt/allowlist.py":
        assert internals == {"agent_framework._workflows._checkpoint_encoding"}
    else:
        assert internals == set()


@pytest.mark.parametrize("path", [path for path in SOURCES if path.is_relative_to(ROOT / "eventckpt")], ids=_name)
def test_no_module_imports_from_above_or_beside_its_layer(path: Path) -> None:
    if _name(path) not in HANDS_ON:
        assert upward_imports(path) == []


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_every_logger_is_one_that_escapes_what_it_is_given(path: Path) -> None:
    """`logger_of` gives them; the worker only says where lines go, and how many."""
    if _name(path) not in ("eventckpt/log.py", "projections/worker/logs.py"):
        assert not {name for name in imports(path) if name.partition(".")[0] == "logging"}


def test_the_one_program_above_the_projections_imports_them_where_it_asks() -> None:
    """So that it starts without them, and where they are not installed."""
    tree = _tree(ROOT / ABOVE_PROJECTIONS)
    assert any(name.startswith("projections") for name in imports(ROOT / ABOVE_PROJECTIONS))
    at_once = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom | ast.Try)]
    assert not [each for each in at_once if "projections" in ast.unparse(each)]


def _within(name: str, places: Iterable[str]) -> bool:
    return any(name == place or (place.endswith("/") and name.startswith(place)) for place in places)


def engines() -> set[str]:
    """The engines: the folders below `stores`."""
    return {path.parent.name for path in (ROOT / "eventckpt/stores").glob("*/__init__.py")}


def engine_classes() -> dict[str, str]:
    """Each public class that an engine defines, and the engine."""
    return {
        node.name: engine
        for engine in engines()
        for path in (ROOT / "eventckpt/stores" / engine).rglob("*.py")
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    }


def classes_asked_for(tree: ast.AST) -> set[str]:
    """The names of the classes that code tells values apart by: `isinstance`, `type(…) is`, `case Class()`."""
    asked: list[ast.AST] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
            asked.extend(node.args[1:])
        elif isinstance(node, ast.Compare) and "type(" in ast.unparse(node):
            asked.append(node)
        elif isinstance(node, ast.MatchClass):
            asked.append(node.cls)
    names = {part for each in asked for part in ast.walk(each) if isinstance(part, ast.Name | ast.Attribute)}
    return {name.id if isinstance(name, ast.Name) else name.attr for name in names}


def goes_on_after_an_error(tree: ast.AST) -> bool:
    """Whether there is a loop that something failed in, and that then turns once more: a retry loop."""
    return any(
        not _leaves(handler.body)
        for loop in ast.walk(tree)
        if isinstance(loop, ast.For | ast.While | ast.AsyncFor)
        for inside in ast.walk(loop)
        if isinstance(inside, ast.Try)
        for handler in inside.handlers
    )


def _leaves(body: list[ast.stmt]) -> bool:
    """Whether no path through these statements reaches their end."""
    last = body[-1]
    if isinstance(last, ast.If):
        return bool(last.orelse) and _leaves(last.body) and _leaves(last.orelse)
    return isinstance(last, ast.Raise | ast.Return | ast.Break)


def is_a_list_of_names(node: ast.stmt) -> bool:
    """What a face is for: imports, those for type checkers included, `__all__`, and an older name for the same."""
    if isinstance(node, ast.If):
        return _is_for_type_checkers(node) and all(map(is_a_list_of_names, node.body)) and not node.orelse
    return isinstance(node, ast.Import | ast.ImportFrom) or (
        isinstance(node, ast.Assign) and (ast.unparse(node.targets[0]) == "__all__" or isinstance(node.value, ast.Name))
    )


def is_a_face(source: str) -> bool:
    """Whether a package's `__init__` only hands names on, in few lines.

    A module's hooks `__getattr__` and `__dir__`, for names that need an extra, can be nowhere else.
    """
    beside = len(source.splitlines())
    for node in ast.parse(source).body:
        if is_a_list_of_names(node):
            beside -= (node.end_lineno or node.lineno) - node.lineno + 1
        elif isinstance(node, ast.FunctionDef):
            if node.name not in ("__getattr__", "__dir__"):
                return False
        elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            return False
    return beside < LONGEST_FACE


def functions(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Each function and method, nested ones too, and how many lines it has."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def test_what_the_rules_below_look_for_is_found() -> None:
    """The control for each of them."""
    assert engines() == {"cosmos", "sqlite"}
    assert engine_classes().items() >= {"SqliteEventStore": "sqlite", "CosmosEventStore": "cosmos"}.items()
    for asked in (
        "isinstance(a, errors.Some | Other)",
        "issubclass(a, (Some, Other))",
        "type(a) is Some or type(a) == Other",
        "match a:\n    case Some(): pass\n    case m.Other(): pass",
    ):
        assert classes_asked_for(ast.parse(asked)) >= {"Some", "Other"}, asked
    again = "while True:\n    try:\n        f()\n    except E:\n        {}\n"
    for handler in ("pass", "if a: raise", "continue", "await sleep(1)"):
        assert goes_on_after_an_error(ast.parse(again.format(handler)))
    for handler in ("raise F from None", "return", "break"):
        assert not goes_on_after_an_error(ast.parse(again.format(handler)))
    assert is_a_face('"""Why."""\nfrom .a import b\nold_b = b\n__all__ = ["b"]\n\ndef __getattr__(name): ...\n')
    for logic in ("def f(): ...", "class C: ...", "for a in b: ...", "a = 1", "f()", "if a:\n    import b", "a\n" * 50):
        assert not is_a_face(f"from .a import b\n{logic}\n"), logic
    assert dict(functions(ast.parse("class C:\n    def f(self):\n        def g():\n            pass\n"))) == {
        "f": 3,
        "g": 2,
    }


def test_the_ports_know_no_engine_and_no_engine_knows_another() -> None:
    for path in sorted((ROOT / "eventckpt/stores").rglob("*.py")):
        own = path.relative_to(ROOT / "eventckpt/stores").parts[0].removesuffix(".py")
        known = {name.split(".")[2] for name in imports(path) if name.startswith("eventckpt.stores.")}
        assert known & engines() <= {own}, _name(path)


def test_only_what_opens_stores_names_an_engine() -> None:
    public = {f"eventckpt.{name}" for name in engine_classes()}
    folders = tuple(f"eventckpt.stores.{engine}" for engine in engines())
    broken = {
        _name(path)
        for path in SOURCES
        if not _within(_name(path), [*NAME_ENGINES, *(f"{folder.replace('.', '/')}/" for folder in folders)])
        and any(name in public or name.startswith(folders) for name in imports(path))
    }
    assert broken == set()


def test_nothing_dispatches_on_the_class_of_an_engine() -> None:
    classes = engine_classes()
    for path in [*SOURCES, *sorted((ROOT / "samples").rglob("*.py"))]:
        asked = classes_asked_for(_tree(path)) & set(classes)
        foreign = {name for name in asked if not _within(_name(path), [f"eventckpt/stores/{classes[name]}/"])}
        assert not foreign, _name(path)


def test_what_only_a_part_needs_is_imported_by_that_part_only() -> None:
    broken = {
        f"{_name(path)}: {foreign}"
        for path in SOURCES
        for foreign in {name.partition(".")[0] for name in imports(path)} & AT_HOME.keys()
        if not _within(_name(path), AT_HOME[foreign])
    }
    assert broken == set()


def test_one_module_translates_the_errors_of_the_azure_sdk() -> None:
    broken = {
        _name(path)
        for path in SOURCES
        if _within(_name(path), AT_HOME["azure"])
        and _name(path) != f"{COSMOS}requests.py"
        and any(name.startswith(("azure.core.exceptions", "azure.cosmos.exceptions")) for name in imports(path))
    }
    assert broken == set()


def test_one_loop_asks_cosmos_db_again() -> None:
    again = [path for path in SOURCES if _name(path).startswith(COSMOS) and goes_on_after_an_error(_tree(path))]
    assert [_name(path) for path in again] == [f"{COSMOS}requests.py"]
    loops = [node for node in ast.walk(_tree(again[0])) if isinstance(node, ast.For | ast.While | ast.AsyncFor)]
    assert sum(goes_on_after_an_error(loop) for loop in loops) == 1


def test_nothing_waits_in_the_executor_of_the_loop_which_is_the_applications() -> None:
    who = [
        _name(path)
        for path in (ROOT / "eventckpt").rglob("*.py")
        if ROOT / "eventckpt" / "cli" not in path.parents
        and re.search(r"\bto_thread\b|\brun_in_executor\b", path.read_text())
    ]
    assert who == []


def test_projections_use_no_command_line_and_no_audit_but_for_what_a_worker_does_beside() -> None:
    for path in SOURCES:
        if path.is_relative_to(ROOT / "projections"):
            is_a_worker = path.is_relative_to(ROOT / "projections/worker")
            not_used = ("eventckpt.cli",) if is_a_worker else ("eventckpt.cli", "eventckpt.audit")
            assert not {name for name in imports(path) if name.startswith(not_used)}


def test_a_package_face_only_hands_names_on() -> None:
    faces = [path for path in SOURCES if path.name == "__init__.py"]
    assert sorted({_name(path) for path in faces if not is_a_face(path.read_text())}) == [], (
        "Not kept: a face hands names on."
    )


def test_every_module_says_why_it_exists() -> None:
    assert [_name(path) for path in SOURCES if not ast.get_docstring(_tree(path))] == []


def test_no_file_has_more_lines_than_one_can_oversee() -> None:
    long = {_name(path) for path in SOURCES if len(path.read_text().splitlines()) > LONGEST_FILE}
    assert sorted(long) == []


def test_no_function_has_more_lines_than_one_can_oversee() -> None:
    broken = {
        f"{_name(path)}: {name}"
        for path in SOURCES
        for name, lines in functions(_tree(path))
        if lines > LONGEST_FUNCTION
    }
    assert broken == set()
