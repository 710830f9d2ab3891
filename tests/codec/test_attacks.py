"""While stored bytes are decoded the interpreter runs no code that they chose, and they cost what their size allows.

docs/codec.md says what a hostile event cannot do; each line of that list is a test here or in test_codec_hostile.py.
"""

from __future__ import annotations

import decimal
import importlib
import os
import subprocess
import sys
import time
import typing
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from eventckpt import CheckpointCodec, CheckpointDecodeError
from eventckpt.allowlist import INTERPRETER
from eventckpt.codec.decoder import zone_names
from eventckpt.records import ADMITTED, REFUSED
from tests import checkpoint_types as app
from tests.fidelity import checkpoint
from tests.framework_classes import framework_classes
from tests.hostile import CORPUS, PAIR, PREY, PROOF, RAW, attacks, raw_with, watched

CODEC = CheckpointCodec(app.ALLOWED)
SECONDS, MEGABYTES = 10, 100
"""What a refusal may take of the processor, so that one which never ends is noticed on any machine, and of memory. What
each takes is a benchmark."""

ATTACKS = {name: raw_with(node) for name, node in CORPUS.items()} | RAW


def _prepare() -> None:
    """Import what the allow-list admits, and read the names of the zones: what a process does once."""
    for key in ADMITTED & framework_classes().keys():
        importlib.import_module(key.partition(":")[0])
    zone_names()
    CODEC.decode(CODEC.encode(checkpoint([ZoneInfo("UTC")])))


def test_the_hook_sees_what_runs() -> None:
    with watched() as seen:
        exec("1")
        compile("1", "x", "eval")
        Path(os.devnull).read_bytes()
    assert {event.partition(" ")[0] for event in seen} >= {"exec", "compile", "open"}


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_that_was_found_is_refused_and_runs_nothing(name: str) -> None:
    _prepare()
    with watched() as seen, pytest.raises(CheckpointDecodeError):
        CODEC.decode(ATTACKS[name])
    assert seen == []
    assert PROOF not in os.environ


@pytest.mark.parametrize("name", ATTACKS)
def test_every_refusal_ends(name: str) -> None:
    raw = ATTACKS[name]
    assert len(raw) <= 1_000_000
    _prepare()
    started = time.process_time()
    with pytest.raises(CheckpointDecodeError):
        CODEC.decode(raw)
    assert time.process_time() - started <= SECONDS


_MEASURED = """
import resource, sys
from eventckpt import CheckpointCodec, CheckpointDecodeError
from tests import checkpoint_types as app
from tests.hostile import CORPUS, RAW, raw_with
codec = CheckpointCodec(app.ALLOWED)
raws = {name: raw_with(node) for name, node in CORPUS.items()} | RAW
worst, name_of_worst = 0, ""
for name, raw in raws.items():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        codec.decode(raw)
    except CheckpointDecodeError:
        pass
    else:
        sys.exit(f"{name} was decoded")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    if grown > worst:
        worst, name_of_worst = grown, name
print(worst, name_of_worst)
"""


def test_no_refusal_costs_much_memory_or_the_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": "."},
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[0]) <= MEGABYTES, done.stdout


CLASSES = sorted(INTERPRETER | (ADMITTED & framework_classes().keys()) | REFUSED)


@pytest.mark.parametrize("part", range(8))
def test_nothing_runs_whatever_attackers_put_into_whichever_position(part: int) -> None:
    _prepare()
    raws = [raw_with(node) for node in attacks(CLASSES[part::8])]
    assert len(raws) > 5_000
    with watched() as seen:
        for raw in raws:
            try:
                CODEC.decode(raw)
            except CheckpointDecodeError:
                continue
    assert seen == []
    assert PROOF not in os.environ


def test_the_same_holds_for_what_an_application_allowed_with_classes_that_do_nothing() -> None:
    _prepare()
    names = (
        "Point",
        "FrozenPoint",
        "SlottedPoint",
        "Place",
        "Customer",
        "Pair",
        "Items",
        "Table",
        "Tags",
        "Name",
        "AppError",
    )
    codec = CheckpointCodec([f"{app.__name__}:{name}" for name in names])
    with watched() as seen:
        for node in attacks([f"{app.__name__}:{name}" for name in names]):
            try:
                codec.decode(raw_with(node))
            except CheckpointDecodeError:
                continue
    assert seen == []


def test_the_only_file_that_a_decode_opens_is_that_of_a_time_zone() -> None:
    _prepare()
    name = next(name for name in sorted(zone_names()) if name.startswith("Antarctica/"))
    raw = raw_with({"$": "zone", "n": name})
    ZoneInfo.clear_cache()
    with watched() as seen:
        assert CODEC.decode(raw).state["value"].key == name
    assert [event for event in seen if not (event.startswith("open ") and name in event)] == []


def test_what_a_state_sets_is_never_the_class_of_an_object() -> None:
    with pytest.raises(CheckpointDecodeError, match="sets __annotations__"):
        CODEC.decode(raw_with(PREY))
    for key in sorted(ADMITTED & framework_classes().keys()):
        raw = raw_with({"$": key, "c": ["x"], "s": {"__class__": {"$": "type", "n": key}}})
        with pytest.raises(CheckpointDecodeError):
            CODEC.decode(raw)


def test_the_cost_of_a_decode_is_linear_in_its_bytes() -> None:
    """Twice the messages, about twice the time: far from four times."""
    raws = [
        CODEC.encode(checkpoint([{"a": [n, str(n), (n,), {n: n}]} for n in range(count)])) for count in (4_000, 16_000)
    ]
    best: list[float] = []
    for raw in raws:
        times: list[float] = []
        for _ in range(5):
            started = time.process_time()
            CODEC.decode(raw)
            times.append(time.process_time() - started)
        best.append(min(times))
    assert best[1] / best[0] < 8, "four times the bytes"


def test_references_are_no_way_around_the_depth_of_what_is_hashed() -> None:
    for levels, accepted in ((150, True), (250, False)):
        links = [{"$": PAIR, "a": [{"$": "ref", "i": n - 1}, None], "i": n} for n in range(2, levels)]
        node = [{"$": PAIR, "a": [1, None], "i": 1}, *links, {"$": "set", "l": [{"$": "ref", "i": levels - 1}]}]
        if accepted:
            CODEC.decode(raw_with(node))
        else:
            with pytest.raises(CheckpointDecodeError, match="nest deeper than 200"):
                CODEC.decode(raw_with(node))


def test_what_typing_keeps_of_types_is_not_what_a_checkpoint_put_there() -> None:
    text, number = ({"$": "type", "n": f"builtins:{name}"} for name in ("str", "int"))
    stored = {"$": "generic", "n": "Dict", "l": [text, {"$": "generic", "n": "Union", "l": [text, number]}]}
    CODEC.decode(raw_with(stored))
    assert str(typing.Dict[str, int | str]) == "typing.Dict[str, int | str]"  # noqa: UP006


def test_a_decode_leaves_the_decimal_context_of_its_thread_as_it_was() -> None:
    decimal.getcontext().clear_flags()
    with pytest.raises(CheckpointDecodeError):
        CODEC.decode(raw_with({"$": "decimal:Decimal", "c": ["no number"]}))
    with pytest.raises(
        CheckpointDecodeError, match="'decimal:Decimal' and of the class 'builtins:float', are equal now"
    ):
        CODEC.decode(raw_with({"$": "set", "l": [{"$": "decimal:Decimal", "c": ["1"]}, 1.0]}))
    assert not any(decimal.getcontext().flags.values())


def test_ordinary_sets_and_dicts_of_any_size_stay_within_the_limits() -> None:
    values = [
        {(n, n + 1) for n in range(30_000)},
        {n: n for n in range(-30_000, 30_000)},
        {(x, y, z) for x in (-2, -1, 0) for y in (-2, -1, 0) for z in (-2, -1, 0)},
        {frozenset({n, (n, str(n))}) for n in range(5_000)},
        {2**4096 - n for n in range(300)},
        {2**n: n for n in range(2_000)},
        {2**250_000},
        {n << 22: n for n in range(20_000)},
        {n << 17 for n in range(60_000)},
        {1 << n for n in range(3_000)},
        [{app.FrozenPoint(tuple(range(1_000)), 1): n} for n in range(500)],
    ]
    again = CODEC.decode(CODEC.encode(checkpoint(values))).state["value"]
    assert again == values
