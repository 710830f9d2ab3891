"""Bytes that somebody made to cost far more than they are, and what reading each of them costs.

Run as a program, it measures every case in a process of its own (`python -m tests.audit.hostile CASE…`), one JSON
object a line: the processor's seconds that each look at the bytes took, the memory that all of them took up to then, in
MB, and the error of ours, if any. `HOSTILE_SIZE` is how many bytes each case has, about.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from eventckpt.audit.diff import differences
from eventckpt.codec.tree import brief, parts_at, same
from eventckpt.codec.tree_reader import read_tree, read_trees, types_in
from eventckpt.errors import CheckpointDecodeError
from eventckpt.rendering.trees import leaf_text, plain_tree, tree_lines

SIZE = int(os.environ.get("HOSTILE_SIZE", "1000000"))
DEEP = 195


def ref(label: int) -> dict[str, Any]:
    return {"$": "ref", "i": label}


def tuple_of(*items: Any) -> dict[str, Any]:
    return {"$": "tuple", "l": list(items)}


def nested(levels: int, around: Callable[[Any], Any], value: Any) -> Any:
    for _ in range(levels):
        value = around(value)
    return value


def labels(count: int, **more: Any) -> list[Any]:
    """Lists of which each refers to the one before, so that a path is asked for of every one."""
    return [{"$": "list", "l": [ref(i - 1)] if i else [1], "i": i, **more} for i in range(count)]


def wide_int(size: int) -> dict[str, Any]:
    return {"$": "int", "b": b"\x01" + b"\0" * size}


CASES: dict[str, Callable[[], Any]] = {
    "a list of ints": lambda: [1] * SIZE,
    "empty lists": lambda: [[]] * SIZE,
    "empty maps": lambda: [{}] * SIZE,
    "lists of one": lambda: [[1]] * (SIZE // 2),
    "lists of a list": lambda: [[[1]]] * (SIZE // 3),
    "maps of one": lambda: [{"": 1}] * (SIZE // 3),
    "a map of many": lambda: {str(i): 0 for i in range(SIZE // 8)},
    "a tuple": lambda: tuple_of(*[1] * SIZE),
    "empty tuples": lambda: [tuple_of()] * (SIZE // 12),
    "a set": lambda: {"$": "set", "l": list(range(SIZE // 5))},
    "a set of one element": lambda: {"$": "set", "l": [1] * SIZE},
    "sets in sets": lambda: nested(DEEP, lambda x: {"$": "frozenset", "l": [x, *range(SIZE // 500)]}, -1),
    "a long text under sets": lambda: nested(DEEP, lambda x: {"$": "frozenset", "l": [x]}, "x" * SIZE),
    "a long tuple under sets": lambda: nested(DEEP, lambda x: {"$": "frozenset", "l": [x]}, tuple_of(*[1] * SIZE)),
    "keys in keys": lambda: nested(
        DEEP // 2, lambda x: {"$": "dict", "d": [[tuple_of(x, *[1] * (SIZE // 110)), 0]]}, 1
    ),
    "a dict of many": lambda: {"$": "dict", "d": [[i, 0] for i in range(SIZE // 8)]},
    "colliding keys": lambda: {"$": "dict", "d": [[wide_int_of(i * (2**61 - 1)), 0] for i in range(SIZE // 40)]},
    "labels at depth": lambda: nested(DEEP, lambda x: {"k" * 20: x}, labels(SIZE // 32)),
    "labels behind a long key": lambda: {"k" * (SIZE // 2): labels(SIZE // 64)},
    "labels in a chain": lambda: nested(DEEP, lambda x: {"$": "list", "l": [x], "i": id(x) % 2**31}, 1),
    "labels that nothing refers to": lambda: [{"$": "set", "l": [], "i": i} for i in range(SIZE // 17)],
    "leaves behind a long key": lambda: {"k" * (SIZE // 2): [[1]] * (SIZE // 4)},
    "wide ints": lambda: [wide_int(510)] * (SIZE // 520),
    "a very wide int": lambda: wide_int(SIZE),
    "wide ranges": lambda: [{"$": "builtins:range", "c": [0, wide_int(2100), 1]}] * (SIZE // 2150),
    "decimals": lambda: [{"$": "decimal:Decimal", "c": ["1E+999999999999999999"]}] * (SIZE // 45),
    "a long decimal": lambda: {"$": "decimal:Decimal", "c": ["9" * SIZE]},
    "control characters": lambda: "\x01a" * (SIZE // 2),
    "surrogates": lambda: {"$": "str", "b": b"\xed\xa0\x80" * (SIZE // 3)},
    "a long list at depth": lambda: nested(DEEP, lambda x: [x], [1] * SIZE),
    "lists on the way down": lambda: nested(DEEP, lambda x: {"a": x, "b": [1] * (SIZE // 200)}, 1),
    "lists and more on the way down": lambda: nested(DEEP, lambda x: [[1] * (SIZE // 200), x], 1),
    "bytes": lambda: b"\0" * SIZE,
    "complex numbers": lambda: [{"$": "builtins:complex", "c": [0.0, 0.0]}] * (SIZE // 42),
    "times in times": lambda: nested(
        DEEP // 2, lambda x: {"$": "datetime:datetime", "c": [x, *[1] * (SIZE // 100)]}, 1
    ),
    "objects": lambda: [{"$": "a:b", "s": {}}] * (SIZE // 10),
    "objects with many arguments": lambda: [{"$": "a:b", "a": [1] * 900}] * (SIZE // 910),
    "an object with very many arguments": lambda: {"$": "a:b", "a": [1] * SIZE},
    "types": lambda: [{"$": f"a:{i}"} for i in range(SIZE // 11)],
    "objects that are not shown": lambda: [{"$": "hidden:x", "s": {"a": [1]}}] * (SIZE // 20),
    "what is not shown, at depth": lambda: nested(DEEP, lambda x: {"$": "hidden:x", "s": [x]}, [1] * SIZE),
    "type expressions": lambda: nested(
        DEEP, lambda x: {"$": "generic", "n": "a:b" + "c" * (SIZE // 250), "l": [x]}, None
    ),
    "unions": lambda: nested(DEEP, lambda x: {"$": "union", "l": [x]}, {"$": "type", "n": "a:" + "b" * SIZE}),
    "too deep": lambda: nested(900, lambda x: [x], 1),
    "very deep": lambda: Raw(b"\x91" * SIZE),
}


class Raw(bytes):
    """MessagePack as it stands."""


def wide_int_of(number: int) -> dict[str, Any]:
    return {"$": "int", "b": number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True)}


def raw_of(name: str, **beside: Any) -> bytes:
    value = CASES[name]()
    if isinstance(value, Raw):
        return b"\x81\xa5state" + value
    return msgspec.msgpack.encode({"state": {"value": value, **beside}})


def shows(key: str) -> bool:
    return not key.startswith("hidden")


LOOKS: dict[str, Callable[[bytes], object]] = {
    "types_in": types_in,
    "read_tree": lambda raw: read_tree(raw, shows),
    "read_trees": lambda raw: read_trees(raw, raw.replace(b"value", b"other", 1), shows),
    "read_trees of the same": lambda raw: read_trees(raw, raw + b"", shows),
    "differences": lambda raw: sum(1 for _ in differences(read_tree(raw, shows), read_tree(raw, shows))),
    "differences of all": lambda raw: sum(1 for _ in differences(read_tree(raw, shows), {})),
    "same": lambda raw: same(read_tree(raw, shows), read_tree(raw, shows)),
    "brief": lambda raw: brief(read_tree(raw, shows)),
    "parts_at": lambda raw: list(parts_at(read_tree(raw, shows), "state.value[0]")),
    "leaf_text": lambda raw: leaf_text(read_tree(raw, shows)),
    "tree_lines": lambda raw: sum(map(len, tree_lines(read_tree(raw, shows)))),
    "all tree_lines": lambda raw: sum(map(len, tree_lines(read_tree(raw, shows), full=True))),
    "plain_tree": lambda raw: plain_tree(read_tree(raw, shows)),
}


def in_a_process(work: Callable[[], object]) -> None:
    """Do something in a child, so that its memory is its own; whatever ends the child ends this program."""
    child = os.fork()
    if child == 0:
        work()
        sys.stdout.flush()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status:
        raise SystemExit(f"a look at hostile bytes ended the process: {status}")


def measure(case: str, raw: bytes) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for look in LOOKS:
        measure_one(case, look, raw, before)


def measure_one(case: str, look: str, raw: bytes, before: int) -> None:
    started, said = time.process_time(), ""
    try:
        LOOKS[look](raw)
    except CheckpointDecodeError as error:
        said = str(error)[:100]
    took = time.process_time() - started
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps({"case": case, "look": look, "size": len(raw), "s": took, "mb": memory, "error": said}))


def main(cases: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "raw")
        for case in cases or CASES:
            in_a_process(lambda case=case: file.write_bytes(raw_of(case)))
            in_a_process(lambda case=case: measure(case, file.read_bytes()))


if __name__ == "__main__":
    main(sys.argv[1:])
