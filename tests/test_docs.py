"""What the documents say is so: their examples run, their links lead somewhere, their tables agree with the code."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import sqlite3
import sys
import tomllib
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args
from uuid import uuid4

import msgspec
import pytest
import yaml
from agent_framework import HistoryProvider
from opentelemetry import metrics

import eventckpt
from eventckpt import (
    CosmosCheckpointStorage,
    EventCheckpointStorage,
    EventStore,
    SqliteCheckpointStorage,
    SqliteEventStore,
    StreamId,
    delta,
    errors,
    events,
    records,
    threads,
)
from eventckpt.codec import forms, proof, shapes, type_expressions, work
from eventckpt.history.provider import Dedupe, EventHistoryProvider, OnConflict
from eventckpt.storage import load as reader
from eventckpt.storage import save as writer
from eventckpt.storage import summary, telemetry, tracing
from eventckpt.storage.memory import Memory
from eventckpt.stores.cosmos import event_store as cosmos
from eventckpt.stores.sqlite import appends, queries, schema

from .conftest import cosmos_account

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
ALL_PAGES = [*PAGES, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("decisions/*.md"))]

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
every_page = pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.name)


# Examples


@pytest.mark.filterwarnings(r"ignore:\[FUNCTIONAL_WORKFLOWS\]:FutureWarning")
@each_page
async def test_the_examples_of_a_page_run_from_top_to_bottom(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if page.name == "hosts.md":
        pytest.importorskip("agent_framework_foundry_hosting", reason="`make test-hosts` has what it needs")
    async with cosmos_account() as (endpoint, key):
        settings = {
            "ENDPOINT": endpoint,
            "KEY": key,
            "DATABASE_NAME": "eventckpt-tests",
            "CONTAINER_NAME": f"docs-{uuid4()}",
        }
        for name, setting in settings.items():
            monkeypatch.setenv(f"AZURE_COSMOS_{name}", setting)
        monkeypatch.chdir(tmp_path)
        await run_examples(page, monkeypatch)


async def run_examples(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    my_app = types.ModuleType("my_app")  # so that the examples' own types can be found again by name
    monkeypatch.setitem(sys.modules, "my_app", my_app)
    try:
        for line, source in examples(page):
            padded = "\n" * (line - 1) + source  # tracebacks then show the page's own lines
            code = compile(padded, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
            running = eval(code, vars(my_app))
            if inspect.isawaitable(running):
                await running
    finally:
        for value in list(vars(my_app).values()):
            if isinstance(value, EventCheckpointStorage | EventStore):
                await value.close()
            elif isinstance(value, sqlite3.Connection):
                value.close()


def examples(page: Path) -> Iterator[tuple[int, str]]:
    """The page's Python blocks, each with the number of its first line."""
    text = page.read_text(encoding="utf-8")
    for block in re.finditer(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
        yield text.count("\n", 0, block.start(1)) + 1, block[1]


def defined_on(page: Path) -> dict[str, object]:
    """What a page's examples define, run without an event loop as far as they need none."""
    defined: dict[str, object] = {}
    for line, source in examples(page):
        if "await " not in re.sub(r"^ .*", "", source, flags=re.MULTILINE):
            exec(compile("\n" * (line - 1) + source, page, "exec", dont_inherit=True), defined)
    return defined


TestTheEngineOfTheDocument = defined_on(DOCS / "conformance.md")["TestMemoryEventStore"]


# Links and commands


@every_page
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(file), f"{page.name} links to {target}"


def test_the_hooks_before_a_commit_run_what_lint_runs() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert recipe is not None
    lines = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe[1].splitlines()]
    assert [hook["entry"] for hook in hooks] == lines
    assert all(hook["language"] == "system" for hook in hooks), "nothing is downloaded"


def test_every_decision_is_in_the_list_of_them() -> None:
    pages = sorted(path for path in DOCS.glob("decisions/[0-9]*.md"))
    listed = table("decisions/README.md", "Decisions")
    titles = [page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ") for page in pages]
    assert [(page.name, title) for page, title in zip(pages, titles, strict=True)] == [
        (re.findall(r"\((.*?)\)", number)[0], title.strip()) for number, title in listed
    ]
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))


@every_page
def test_every_make_target_exists(page: Path) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    named = re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)`", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert {one or other for one, other in named} <= set(targets)


def test_the_index_lists_every_page() -> None:
    index = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in DOCS.glob("*.md") if f"(docs/{page.name})" not in index] == []


def test_every_public_name_is_documented() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [name for name in eventckpt.__all__ if not re.search(rf"\b{name}\b", text)] == []


def test_the_changelog_has_the_current_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"## [{project['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def prose(page: Path) -> str:
    """The page without its code."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(page: Path) -> set[str]:
    """The names that headings get on a page."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    }


# Tables


def table(page: str, heading: str) -> list[list[str]]:
    """The rows of the first table under a heading, without its head."""
    text = (DOCS / page).read_text(encoding="utf-8")
    section = re.search(rf"^#+ {re.escape(heading)}$(.*?)(?=^#+ |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    assert section is not None, f"{page} has no heading {heading!r}"
    lines = re.search(r"(?:^\|.*\n)+", section[1], flags=re.MULTILINE)
    assert lines is not None, f"{page} has no table under {heading!r}"
    return [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines[0].splitlines()[2:]]


def code(cell: str) -> list[str]:
    """What a cell sets in code."""
    return re.findall(r"`([^`]+)`", cell)


def first_column(page: str, heading: str) -> list[str]:
    return [name for row in table(page, heading) for name in code(row[0])]


@pytest.mark.parametrize(
    "name", ["Annotation", "CheckpointEvent", "Payload", "Summary", "PendingRequest", "ForkPoint", "RunInfo"]
)
def test_the_fields_of_an_event_are_those_of_the_code(name: str) -> None:
    fields = [field.name for field in msgspec.structs.fields(getattr(events, name))]
    assert first_column("event-format.md", name) == fields


async def test_the_columns_of_the_sqlite_file_are_those_of_a_new_one(tmp_path: Path) -> None:
    async with SqliteEventStore(tmp_path / "new.db") as store:
        await store.find("nothing")
        connection = sqlite3.connect(store.path)
        columns = [row[1] for row in connection.execute("PRAGMA table_info(events)")]
        named = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE name LIKE 'events_%'")]
        connection.close()
    text = (DOCS / "event-format.md").read_text(encoding="utf-8")
    assert first_column("event-format.md", "The SQLite file") == columns
    assert [name for name in named if f"`{name}`" not in text] == []
    assert f"0x{schema.APPLICATION_ID:X}" in text


def test_the_encodings_of_payloads_are_those_of_the_code() -> None:
    assert first_column("event-format.md", "How a payload is stored") == [delta.SNAPSHOT, delta.DELTA]


def test_the_kinds_and_keys_of_forms_are_those_of_the_code() -> None:
    keys = forms.OBJECT_FIELDS | {forms.NAME, forms.RAW, forms.FORMAT, forms.SHAPES}
    words = {word for name, word in vars(forms).items() if name.isupper() and isinstance(word, str)}
    assert set(first_column("event-format.md", "Keys")) == keys
    assert set(first_column("event-format.md", "Kinds")) == words - keys


def test_the_keys_and_kinds_of_shapes_are_those_of_the_code() -> None:
    words = {word for name, word in vars(shapes).items() if name.isupper() and isinstance(word, str)}
    [kinds] = [text for key, text in table("event-format.md", "Shapes") if code(key) == [shapes.KIND]]
    assert {*first_column("event-format.md", "Shapes"), *code(kinds)} == words


def test_the_errors_are_those_of_the_code() -> None:
    documented = first_column("semantics.md", "Errors")
    assert sorted(documented) == sorted(errors.__all__)


@pytest.mark.parametrize(
    ("storage", "heading"),
    [
        (EventCheckpointStorage, "Options of every storage"),
        (SqliteCheckpointStorage, "Options of SQLite"),
        (CosmosCheckpointStorage, "Options of Cosmos"),
    ],
)
def test_the_options_are_those_of_the_code(storage: type[EventCheckpointStorage], heading: str) -> None:
    shared = inspect.signature(EventCheckpointStorage).parameters if storage is not EventCheckpointStorage else {}
    options = {
        name: option.default
        for name, option in inspect.signature(storage).parameters.items()
        if option.kind is option.KEYWORD_ONLY and name not in shared
    }
    rows = table("shared-store.md", heading)
    assert {code(name)[0]: ast.literal_eval(code(default)[0]) for name, default, _ in rows} == options


def test_the_options_of_history_are_those_of_the_code() -> None:
    upstreams = inspect.signature(HistoryProvider).parameters
    options = {
        name: option.default
        for name, option in inspect.signature(EventHistoryProvider).parameters.items()
        if option.kind is option.KEYWORD_ONLY and name not in upstreams
    }
    rows = table("history.md", "Options")
    assert {code(name)[0]: ast.literal_eval(code(default)[0]) for name, default, _ in rows} == options
    headings = {"on_conflict": "When somebody else was faster", "dedupe": "Messages that come again"}
    for option, choices in (("on_conflict", OnConflict), ("dedupe", Dedupe)):
        listed = first_column("history.md", headings[option])
        assert [ast.literal_eval(each) for each in listed] == list(get_args(choices))


def test_the_metrics_are_those_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, str, str]] = []

    class Meter:
        def create_counter(self, name: str, *, unit: str, description: str) -> None:
            made.append((name, "counter", unit))

        def create_histogram(self, name: str, *, unit: str, description: str) -> None:
            made.append((name, "histogram", unit))

    monkeypatch.setattr(metrics, "get_meter", lambda name: Meter())
    spec = importlib.util.spec_from_file_location("telemetry_again", str(telemetry.__file__))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert not made, "each is made when it is first used"
    for name in telemetry.__all__:
        getattr(module, name)
    rows = table("architecture.md", "Metrics")
    assert sorted((code(name)[0], kind.strip(), code(unit)[0]) for name, kind, unit, *_ in rows) == sorted(made)


def test_the_outcomes_of_the_metrics_are_those_of_the_code() -> None:
    loads = re.findall(r'outcome = "(\w+)"', inspect.getsource(reader))
    outcomes: dict[str, set[str]] = {code(row[0])[0]: set(code(row[3])) for row in table("architecture.md", "Metrics")}
    saves = {*get_args(writer.Outcome), "failed"}
    assert outcomes["eventckpt.saves"] == outcomes["eventckpt.save.duration"] == saves
    assert outcomes["eventckpt.loads"] == set(loads)


def test_the_spans_are_those_of_the_code() -> None:
    spans = {code(row[0])[0]: (set(code(row[1])), code(row[2])[0]) for row in table("architecture.md", "Spans")}
    saves, loads = {*get_args(writer.Outcome), "failed"}, {"loaded", "none", "failed"}
    assert spans == {"eventckpt.save": (saves, "save"), "eventckpt.load": (loads, "load")}
    assert {f"eventckpt.{operation}" for operation in get_args(tracing.Operation)} == set(spans)
    assert first_column("architecture.md", "Attributes") == list(tracing.ATTRIBUTES.values())


@pytest.mark.parametrize(
    ("page", "claim"),
    [
        ("codec.md", lambda: f"it is done: {work.MAX_WORK:,} steps and {work.WORK_PER_BYTE} for each byte"),
        ("codec.md", lambda: f"one in another up to {type_expressions.MAX_TYPE_DEPTH} levels"),
        ("codec.md", lambda: f"with up to {type_expressions.MAX_TYPE_ARGUMENTS} arguments"),
        ("semantics.md", lambda: f"the last {inspect.signature(Memory).parameters['size'].default:,} checkpoints lie"),
        ("event-format.md", lambda: f"sorted, the first {summary.MAX_STATE_KEYS}"),
        ("event-format.md", lambda: f"cut after {summary.MAX_NAME:,} characters, and after {summary.MAX_SIZE:,} bytes"),
        ("event-format.md", lambda: f"exceeds {len(cosmos.partition_key_of(StreamId('w' * 5000, 'r'))):,} bytes"),
        ("codec.md", lambda: f"SHA-256 of the last {proof._MOST:,} to {2 * proof._MOST:,} values"),
        ("architecture.md", lambda: f"From {threads.LARGE >> 10} KiB on"),
        ("architecture.md", lambda: f"up to {appends._GROUP} events"),
        ("architecture.md", lambda: f"Listings fetch {queries.PAGE} rows at a time"),
    ],
)
def test_the_numbers_are_those_of_the_code(page: str, claim: Callable[[], str]) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    assert claim() in re.sub(r"\s+", " ", text)


def test_the_classes_that_the_allow_list_page_decides_are_on_the_list_that_it_says() -> None:
    rows = [(name, verdict.strip()) for names, verdict, _ in table("allow-list.md", "The rule") for name in code(names)]
    assert len(rows) > 20
    for name, verdict in rows:
        keys = records.ADMITTED if verdict == "admitted" else records.REFUSED
        assert any(key.endswith(f":{name}") for key in keys), f"{name} is not {verdict}"


# Layers


def test_every_module_imports_only_the_layers_below_it() -> None:
    allowed = {name: set(code(row[1])) for row in table("architecture.md", "Layers") for name in code(row[0])}
    found = imports_by_layer("eventckpt", set(allowed))
    assert set(found) == set(allowed)
    assert {layer: sorted(used - allowed[layer]) for layer, used in found.items() if used - allowed[layer]} == {}


def test_the_tree_names_every_module() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    tree = re.search(r"^```text\n(eventckpt/\n.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    assert tree is not None
    named: set[str] = set()
    folders: list[str] = []
    for indent, name in re.findall(r"^( *)(\S+)", tree[1], flags=re.MULTILINE):
        folders = [*folders[: len(indent) // 2], name]
        named.add("".join(folders))
    assert [name for name in named if not (ROOT / name).exists()] == []
    # A folder of which nothing is named stands for all that is in it.
    closed = tuple(name for name in named if name.endswith("/") and not any(map(name.__ne__, within(name, named))))
    modules = {path.relative_to(ROOT).as_posix() for top in ("eventckpt", "projections") for path in python_files(top)}
    assert [name for name in modules - named if not name.startswith(closed)] == []


def within(folder: str, names: set[str]) -> Iterator[str]:
    return (name for name in names if name.startswith(folder))


def python_files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports_by_layer(package: str, layers: set[str]) -> dict[str, set[str]]:
    """Which layers of the package each layer imports; a layer is a module, or a package with what is in it."""
    found: dict[str, set[str]] = {}
    for path in python_files(package):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if module == package:
            continue
        used = found.setdefault(layer_of(module, layers), set())
        used |= {layer_of(name, layers) for name in imported(path, module) if name.startswith(f"{package}.")}
    return {layer: used - {layer} for layer, used in found.items()}


def layer_of(module: str, layers: set[str]) -> str:
    """The layer that a module belongs to: itself, or the package around it."""
    name = module.partition(".")[2]
    while name and name not in layers:
        name = name.rpartition(".")[0]
    assert name, f"{module} is in no layer of docs/architecture.md"
    return name


def imported(path: Path, module: str) -> Iterator[str]:
    """The full names of what a file imports."""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above: list[Any] = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (base if node.module else f"{base}.{alias.name}" for alias in node.names)
