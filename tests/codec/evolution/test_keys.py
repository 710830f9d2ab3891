"""Keys and elements whose class changed: each is there after a load, or an error says which class lost one."""

from __future__ import annotations

from typing import Any

import pytest

from eventckpt import CheckpointCodec, CheckpointDecodeError, Upcaster
from tests.fidelity import checkpoint

from .kinds import MODULE, imported

IMPORTS = """
import enum
import pydantic
from collections import Counter, OrderedDict, defaultdict
"""
KEYS = [f"{MODULE}:{name}" for name in ("M", "Some", "Frozen", "Table")]

FROZEN = "@dataclass(frozen=True)\nclass M:\n    a: int\n    b: int = 1\n"
ONE_COMPARES = FROZEN.replace("b: int = 1", "b: int = field(default=1, compare=False)")
CONTAINERS = "class Some(set): pass\nclass Frozen(frozenset): pass\nclass Table(dict): pass\n"
AN_ENUM = "class M(enum.Enum):\n    A = 1\n    B = 2\n"

each_mode = pytest.mark.parametrize("on_drift", ["error", "warn"])


def reloaded(monkeypatch: pytest.MonkeyPatch, then: str, value: str, now: str, **options: Any) -> Any:
    module = imported(monkeypatch, f"{IMPORTS}\n{then}")
    raw = CheckpointCodec(KEYS).encode(checkpoint(eval(value, vars(module))))
    imported(monkeypatch, f"{IMPORTS}\n{now}")
    return CheckpointCodec(KEYS, **options).decode(raw).state["value"]


@each_mode
@pytest.mark.parametrize(
    "value",
    [
        "{M(7, 1): 'one', M(7, 2): 'two'}",
        "{M(7, 1), M(7, 2)}",
        "frozenset({M(7, 1), M(7, 2)})",
        "OrderedDict({M(7, 1): 'one', M(7, 2): 'two'})",
        "defaultdict(list, {M(7, 1): 'one', M(7, 2): 'two'})",
        "Counter({M(7, 1): 1, M(7, 2): 2})",
        "Some({M(7, 1), M(7, 2)})",
        "Frozen({M(7, 1), M(7, 2)})",
        "Table({M(7, 1): 'one', M(7, 2): 'two'})",
    ],
)
def test_keys_that_are_equal_now_are_an_error_wherever_they_stand(
    monkeypatch: pytest.MonkeyPatch, on_drift: Any, value: str
) -> None:
    with pytest.raises(CheckpointDecodeError, match=rf"'{MODULE}:M' and of the class '{MODULE}:M', are equal now"):
        reloaded(monkeypatch, FROZEN + CONTAINERS, value, ONE_COMPARES + CONTAINERS, on_drift=on_drift)


@pytest.mark.parametrize(
    ("then", "value", "now"),
    [
        (AN_ENUM, "{M.A: 'one', M.B: 'two'}", AN_ENUM.replace("2", "1")),
        ("class M(enum.IntEnum):\n    A = 1\n", "{M.A: 'one', 2: 'two'}", "class M(enum.IntEnum):\n    A = 2\n"),
        ("class M(enum.StrEnum):\n    A = 'a'\n", "{M.A: 1, 'b': 2}", "class M(enum.StrEnum):\n    A = 'b'\n"),
        (
            "@attrs.frozen\nclass M:\n    a: int\n    b: int\n",
            "{M(7, 1), M(7, 2)}",
            "@attrs.frozen\nclass M:\n    a: int\n    b: int = attrs.field(eq=False)\n",
        ),
    ],
)
def test_members_and_other_classes_that_became_equal_lose_no_value_either(
    monkeypatch: pytest.MonkeyPatch, then: str, value: str, now: str
) -> None:
    with pytest.raises(CheckpointDecodeError, match=rf"'{MODULE}:M'.*are equal now"):
        reloaded(monkeypatch, then, value, now)


def test_an_upcaster_that_makes_one_key_of_two_loses_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    less = FROZEN.replace("    b: int = 1\n", "")
    one = Upcaster(f"{MODULE}:M", fn=lambda state: {"a": state["a"]})
    with pytest.raises(CheckpointDecodeError, match=rf"'{MODULE}:M'.*are equal now"):
        reloaded(monkeypatch, FROZEN, "{M(7, 1): 'one', M(7, 2): 'two'}", less, upcasters=[one])


def test_a_key_that_lost_a_field_is_gone_on_with_where_it_stays_another(monkeypatch: pytest.MonkeyPatch) -> None:
    less = FROZEN.replace("    b: int = 1\n", "")
    got = reloaded(monkeypatch, FROZEN, "{M(7, 1): 'one', M(8, 1): 'two'}", less, on_drift="warn")
    assert [(key.a, value) for key, value in got.items()] == [(7, "one"), (8, "two")]


@pytest.mark.parametrize("value", ["{M(a=7): 1}", "{M(a=7)}", "frozenset({M(a=7)})", "Counter({M(a=7): 1})"])
@pytest.mark.parametrize(
    ("then", "now", "on_drift"),
    [
        ("@dataclass(frozen=True)\nclass M:\n    a: int\n", "@dataclass\nclass M:\n    a: int\n", "error"),
        (
            "class M(pydantic.BaseModel, frozen=True):\n    a: int\n",
            "class M(pydantic.BaseModel):\n    a: int\n",
            "error",
        ),
        (
            "@dataclass(frozen=True)\nclass M:\n    a: int\n",
            "@dataclass(frozen=True)\nclass M:\n    a: int\n    b: int\n",
            "warn",
        ),
    ],
)
def test_a_key_that_cannot_be_hashed_any_more_is_named_and_no_damage(
    monkeypatch: pytest.MonkeyPatch, then: str, now: str, on_drift: Any, value: str
) -> None:
    with pytest.raises(CheckpointDecodeError, match=rf"'{MODULE}:M', cannot be hashed now: .* \(at "):
        reloaded(monkeypatch, then, value, now, on_drift=on_drift)
