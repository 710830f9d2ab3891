"""A class that changed between a save and a load: the value that was stored, or an error that names class and field.

Each row of the tables beside this module, by every way to load it; docs/evolution.md shows the same rows.
"""

from __future__ import annotations

import re
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from eventckpt import CheckpointCodec, CheckpointDecodeError, SqliteCheckpointStorage
from eventckpt.codec.root import Root, opened
from tests.fidelity import checkpoint
from tests.test_docs import DOCS, table

from .kinds import MODULE, Kind, Refused, attrs_class, data, imported, model, shown, struct
from .page import rows
from .pydantic_kinds import MODELS
from .tables import KINDS, TABLES

each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
each_mode = pytest.mark.parametrize("on_drift", ["error", "warn"])


def stored(monkeypatch: pytest.MonkeyPatch, kind: Kind, *, bare: bool = False) -> bytes:
    """The bytes of a checkpoint from then, and the module as it is now."""
    then = imported(monkeypatch, kind.then)
    raw = CheckpointCodec(kind.keys).encode(checkpoint(eval(kind.value, vars(then))))
    imported(monkeypatch, kind.now)
    return Root(opened(raw).fields, None).packed() if bare else raw


def outcome(codec: CheckpointCodec, raw: bytes) -> str:
    """What a load gives, as the tables say it."""
    try:
        return shown(codec.decode(raw).state["value"])
    except CheckpointDecodeError as error:
        return str(error)


def assert_is(got: str, want: str | Refused) -> None:
    if isinstance(want, Refused):
        assert f"{MODULE}:M'" in got, got
        assert f"'{want.names}'" in got or want.names == "M", got
    else:
        assert got == want


@pytest.mark.parametrize("bare", [False, True], ids=["recorded", "of 0.1.0"])
@each_mode
@each_kind
def test_a_load_gives_the_value_or_names_class_and_field(
    kind: Kind, on_drift: Any, bare: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event without shapes gets its defaults filled in, and nothing else."""
    raw = stored(monkeypatch, kind, bare=bare)
    codec = CheckpointCodec(kind.keys, on_drift=on_drift)
    assert_is(outcome(codec, raw), kind.outcome(on_drift, bare=bare))


@each_mode
@each_kind
def test_what_was_gone_on_with_is_told_and_filling_in_defaults_is_not(
    kind: Kind, on_drift: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, told = stored(monkeypatch, kind), list[Any]()
    if isinstance(kind.outcome(on_drift, bare=False), Refused):
        return
    CheckpointCodec(kind.keys, on_drift=on_drift).decode(raw, told=told.append)
    drifted = isinstance(kind.want, Refused) or kind.tells is True
    assert {drift.type for drift in told} == ({f"{MODULE}:M"} if drifted else set())
    assert not isinstance(kind.want, Refused) or kind.want.names in ("M", *(drift.name for drift in told))


@each_kind
def test_what_was_loaded_is_saved_and_loaded_again_as_it_is(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = stored(monkeypatch, kind)
    codec = CheckpointCodec(kind.keys, on_drift="warn")
    if isinstance(want := kind.outcome("warn", bare=False), Refused) or " without " in want:
        return
    again = codec.encode(codec.decode(raw))
    told = list[Any]()
    assert shown(codec.decode(again, told=told.append).state["value"]) == outcome(codec, raw)
    assert told == []


def test_defaults_are_made_for_each_value_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    for now in (
        data("a: int = 1", "b: list = field(default_factory=list)"),
        model("a: int = 1", "b: list = []"),
        attrs_class("a: int = 1", "b: list = attrs.Factory(list)"),
    ):
        then = imported(monkeypatch, now.rpartition("    b")[0])
        raw = CheckpointCodec([f"{MODULE}:M"]).encode(checkpoint([then.M(a=1), then.M(a=2)]))
        imported(monkeypatch, now)
        one, two = CheckpointCodec([f"{MODULE}:M"]).decode(raw).state["value"]
        assert one.b == two.b == []
        assert one.b is not two.b


def test_a_field_that_was_filled_in_was_not_given_to_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = next(kind for kind in MODELS if kind.now == model("a: int = 1", "b: str = 'new'"))
    raw = stored(monkeypatch, kind)
    got = CheckpointCodec(kind.keys).decode(raw).state["value"]
    assert got.model_dump(exclude_unset=True) == {"a": 7}
    assert got.model_dump() == {"a": 7, "b": "new"}


@pytest.mark.parametrize("now", [data, model, attrs_class, struct])
def test_a_default_that_cannot_be_made_is_said_with_class_and_field(now: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    factory = {model: "Field", struct: "msgspec.field", data: "field", attrs_class: "attrs.field"}[now]
    name = "factory" if now is attrs_class else "default_factory"
    raw = stored(monkeypatch, Kind("", now("a: int"), "", "M(a=7)", ""))
    source = f"def f(): raise ValueError('no lines')\n{now('a: int', f'b: list = {factory}({name}=f)')}"
    imported(monkeypatch, source)
    with pytest.raises(CheckpointDecodeError, match=r"'b', which was added to 'shop:M'.*ValueError: no lines"):
        CheckpointCodec([f"{MODULE}:M"]).decode(raw)


async def test_a_storage_warns_and_counts(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    metric_reader: InMemoryMetricReader,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = counted(metric_reader)
    then = imported(monkeypatch, data("a: int = 1", "b: str = ''"))
    store, allowed = tmp_path / "c.db", [f"{MODULE}:M"]
    async with SqliteCheckpointStorage(store, allowed_checkpoint_types=allowed) as storage:
        await storage.save(checkpoint([then.M(7, "x"), then.M(8, "y")]))
    imported(monkeypatch, data("a: int = 1"))
    async with SqliteCheckpointStorage(store, allowed_checkpoint_types=allowed) as storage:
        with pytest.raises(CheckpointDecodeError, match=r"'shop:M' has changed.*'b'"):
            await storage.load("c-1")
    async with SqliteCheckpointStorage(store, allowed_checkpoint_types=allowed, on_drift="warn") as storage:
        assert shown((await storage.load("c-1")).state["value"]) == "[M(a=7), M(a=8)]"
    assert [record.getMessage().count("'b'") for record in caplog.records if "shop:M" in record.getMessage()] == [1]
    assert counted(metric_reader) - before == {("shop:M", "removed"): 1}


def counted(reader: InMemoryMetricReader) -> Counter[tuple[str, str]]:
    """The drifts that the metric has, by class and kind."""
    found: Counter[tuple[str, str]] = Counter()
    read = reader.get_metrics_data()
    for resource in read.resource_metrics if read else ():
        for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
            for point in metric.data.data_points if metric.name == "eventckpt.schema_drift" else ():
                attributes: Any = point.attributes
                found[attributes["type"], attributes["kind"]] = point.value  # type: ignore[union-attr]
    return found


# docs/evolution.md


@pytest.mark.filterwarnings("ignore")  # of models whose fields are gone, from a store that does not look
@pytest.mark.parametrize("heading", TABLES)
def test_the_page_has_each_change_and_what_comes_of_it(
    heading: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page = [[cell.strip() for cell in row] for row in table("evolution.md", heading)]
    found = rows(TABLES[heading], monkeypatch, tmp_path)
    if not version("agent-framework-core").startswith("1.23."):  # the last column is that of the one it names
        page, found = [row[:-1] for row in page], [row[:-1] for row in found]
    assert page == found


def test_the_page_has_no_other_tables() -> None:
    text = (DOCS / "evolution.md").read_text(encoding="utf-8")
    assert re.findall(r"^### (.*)$", text, flags=re.MULTILINE) == [*TABLES]
    assert text.count("| --- |\n") == len(TABLES)
