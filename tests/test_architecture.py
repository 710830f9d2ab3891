"""How the packages hang together: what imports what, and what nothing imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*ROOT.glob("eventckpt/**/*.py"), *ROOT.glob("projections/**/*.py")])

LAYERS: list[set[str]] = [
    {"errors", "lru", "moments", "records", "text"},
    {"events", "log", "pickles", "settings"},
    {"allowlist", "chain", "closing", "delta", "removals"},
    {"runs"},
    {"codec", "stores"},
    {"storage", "testing"},
    {"audit"},
    {"cli"},
]
"""Each may import what is below it, and nothing beside it."""

HANDS_ON = {
    "eventckpt/__init__.py",  # the public names, from everywhere
    "eventckpt/stores/conformance.py",  # the suites, which 0.1.0 had there
}

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
    for node in _statements(ast.parse(path.read_text() if source is None else source)):
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


def test_the_port_knows_no_engine_and_no_engine_knows_another() -> None:
    engines = {"sqlite", "cosmos"}
    for path in sorted((ROOT / "eventckpt/stores").rglob("*.py")):
        own = path.relative_to(ROOT / "eventckpt/stores").parts[0].removesuffix(".py")
        known = {name.split(".")[2] for name in imports(path) if name.startswith("eventckpt.stores.")}
        assert known & engines <= {own}, _name(path)


def test_projections_use_no_command_line_and_no_audit() -> None:
    for path in SOURCES:
        if path.is_relative_to(ROOT / "projections"):
            assert not {name for name in imports(path) if name.startswith(("eventckpt.cli", "eventckpt.audit"))}
