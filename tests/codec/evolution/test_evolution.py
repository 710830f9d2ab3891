"""A class that changed between a save and a load: the value that was stored, or an error that names class and field.

Each row of the tables beside this module, by every way to load it; docs/evolution.md shows the same rows.
"""

from __future__ import annotations

from typing import Any

import pytest

from eventckpt import CheckpointCodec, CheckpointDecodeError
from eventckpt.codec.root import Root, opened
from tests.fidelity import checkpoint

from .kinds import MODULE, Kind, Refused, imported, shown
from .tables import KINDS

each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
each_mode = pytest.mark.parametrize("on_drift", ["error", "warn"])


def stored(monkeypatch: pytest.MonkeyPatch, kind: Kind, *, bare: bool = False) -> bytes:
    """The bytes of a checkpoint from then, and the module as it is now."""
    then = imported(monkeypatch, kind.then)
    raw = CheckpointCodec(kind.keys).encode(checkpoint(eval(kind.value, vars(then))))
    imported(monkeypatch, kind.now)
    return Root(opened(raw).fields, None).packed() if bare else raw


def outcome(codec: CheckpointCodec, raw: bytes, kind: Kind) -> str:
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


@each_mode
@each_kind
def test_a_load_gives_the_value_or_names_class_and_field(
    kind: Kind, on_drift: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = stored(monkeypatch, kind)
    codec = CheckpointCodec(kind.keys, on_drift=on_drift)
    assert_is(outcome(codec, raw, kind), kind.outcome(on_drift, bare=False))


@each_mode
@each_kind
def test_an_event_without_shapes_gets_its_defaults_filled_in_and_nothing_else(
    kind: Kind, on_drift: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = stored(monkeypatch, kind, bare=True)
    codec = CheckpointCodec(kind.keys, on_drift=on_drift)
    assert_is(outcome(codec, raw, kind), kind.outcome(on_drift, bare=True))
