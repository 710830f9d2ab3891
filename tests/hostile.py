"""Attacks on a decode: what was found against earlier versions, each as a node that a checkpoint's state may hold.

`CORPUS` holds what must be refused. `attacks` generates more: objects that attackers can make, in every argument,
attribute and state position of every class that anybody may name.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from tests.fidelity import checkpoint

__all__ = ["CORPUS", "PAIR", "PREY", "PROOF", "RAW", "attacks", "raw_with", "watched"]

M: Final = "agent_framework._types:Message"
CONTENT: Final = "agent_framework._types:Content"
TOOL: Final = "agent_framework._tools:FunctionTool"
FUNCTIONAL: Final = "agent_framework._workflows._functional:FunctionalWorkflow"
FUNCTION_EXECUTOR: Final = "agent_framework._workflows._function_executor:FunctionExecutor"
STRATEGY: Final = "agent_framework._compaction:TruncationStrategy"
ERROR: Final = "agent_framework.exceptions:AgentException"
STATE: Final = "agent_framework._workflows._events:WorkflowRunState"
HANDOFF: Final = "agent_framework_orchestrations._handoff:HandoffConfiguration"
PROOF: Final = "EVENTCKPT_CODE_RAN"

Node = Any


def raw_with(node: Node) -> bytes:
    """The bytes of a checkpoint whose state holds this node."""
    return msgspec.msgpack.encode(checkpoint(node).to_dict())


def ref(label: int) -> Node:
    return {"$": "ref", "i": label}


def cls(key: str) -> Node:
    return {"$": "type", "n": key}


PREY: Final = {
    "$": M,
    "s": {"__annotations__": {"x": f"__import__('os').environ.__setitem__({PROOF!r}, '1')"}, "__name__": "prey"},
}
"""An object whose annotations a constructor of the framework would evaluate."""


def tool(func: str, instance: Node) -> Node:
    """A function of the framework's that calls `func(instance, …)`."""
    state = {"func": cls(func), "_instance": instance, "name": "x", "max_invocations": None}
    return {
        "$": TOOL,
        "s": state | {"max_invocation_exceptions": None, "invocation_count": 0, "invocation_exception_count": 0},
    }


def colliding(count: int) -> list[Node]:
    """Different ints that all have the hash 1."""
    return [{"$": "int", "b": (1 + n * (2**61 - 1)).to_bytes(12, "big", signed=True)} for n in range(1, count + 1)]


def tuples_of_one_hash(count: int) -> list[Node]:
    """Tuples of -1 and -2, which hash alike."""
    return [{"$": "tuple", "l": [-1 - (n >> bit & 1) for bit in range(17)]} for n in range(count)]


PAIR: Final = "tests.checkpoint_types:Pair"
"""A named tuple that the application has allowed."""

CORPUS: Final[dict[str, Node]] = {
    # live classes
    "a_constructor_asks_an_object_for_its_keys": {
        "$": "builtins:dict",
        "c": [{"$": M, "s": {"keys": tool(FUNCTIONAL, PREY)}}],
    },
    "an_ordered_dict_does_the_same": {
        "$": "collections:OrderedDict",
        "c": [{"$": M, "s": {"keys": tool(FUNCTIONAL, PREY)}}],
    },
    "so_does_a_counter": {"$": "collections:Counter", "c": [{"$": M, "s": {"keys": tool(FUNCTIONAL, PREY)}}]},
    "and_a_defaultdict": {
        "$": "collections:defaultdict",
        "c": [None, {"$": M, "s": {"keys": tool(FUNCTIONAL, PREY)}}],
    },
    "a_setstate_asks_an_attribute_for_get": {
        "$": CONTENT,
        "s": {
            "type": "function_call",
            "additional_properties": {"$": M, "s": {"get": tool(FUNCTION_EXECUTOR, PREY | {"$": STRATEGY})}},
        },
    },
    "a_setstate_asks_a_class_for_get": {
        "$": CONTENT,
        "s": {"type": "function_call", "additional_properties": {"$": M, "s": {"get": cls("builtins:type")}}},
    },
    "a_setstate_asks_an_attribute_for_items": {"$": M, "s": {"$": M, "s": {"items": cls("builtins:list")}}},
    "a_uuid_asks_for_replace": {"$": "uuid:UUID", "c": [{"$": M, "s": {"replace": tool(FUNCTIONAL, PREY)}}]},
    "a_tool_by_itself": tool(FUNCTIONAL, PREY),
    "a_functional_workflow": {"$": FUNCTIONAL, "c": [PREY]},
    "a_function_executor": {"$": FUNCTION_EXECUTOR, "s": {"func": PREY}},
    "an_agent": {"$": "agent_framework._agents:Agent", "s": {}},
    "a_storage": {"$": "agent_framework._workflows._checkpoint:FileCheckpointStorage", "s": {"storage_path": "/"}},
    "an_enum_without_members_makes_a_class": {
        "$": "agent_framework._feature_stage:ReleaseCandidateFeature",
        "c": ["X", [["__call__", 1]]],
    },
    "an_enum_with_members_is_called_with_names": {"$": STATE, "c": ["X", [["A", "a"]]]},
    "an_enum_is_called_with_an_object": {"$": STATE, "c": [{"$": M, "s": {}}]},
    "a_class_is_made": {"$": "builtins:type", "c": ["X", {"$": "tuple", "l": []}, {"__del__": 1}]},
    # states
    "a_message_turns_into_another_class": {"$": M, "s": {"__class__": cls(ERROR)}},
    "an_exception_does": {"$": ERROR, "c": ["x"], "s": {"__class__": cls(ERROR)}},
    "a_content_does_by_slots": {"$": CONTENT, "s": {"$": "tuple", "l": [{}, {"__class__": cls(M)}]}},
    "a_message_gets_annotations": PREY,
    "a_name_is_put_together_from_bytes": {
        "$": M,
        "s": {"$": "dict", "d": [[{"$": "str", "b": b"__class__"}, cls(CONTENT)]]},
    },
    "a_state_is_no_dict": {"$": M, "s": [1]},
    "a_state_is_an_object": {"$": "agent_framework._sessions:AgentSession", "s": {"$": M, "s": {}}},
    "notes_that_are_no_texts": {"$": ERROR, "c": ["x"], "s": {"__notes__": [{"$": M, "s": {}}]}},
    "a_uuid_of_a_text": {"$": "uuid:UUID", "s": {"int": "1"}},
    "a_uuid_of_too_large_a_number": {"$": "uuid:UUID", "s": {"int": {"$": "int", "b": b"\x7f" * 40}}},
    "a_uuid_with_another_attribute": {"$": "uuid:UUID", "s": {"int": 1, "hex": "x"}},
    # what is called
    "a_codec_is_looked_up_by_name": {"$": "builtins:str", "c": [b"x" * 1000, "punycode"]},
    "a_text_of_an_object": {"$": "builtins:str", "c": [{"$": M, "s": {}}]},
    "a_list_of_an_object": {"$": "builtins:list", "c": [{"$": M, "s": {"__iter__": cls("builtins:list")}}]},
    "new_instead_of_a_call": {"$": "builtins:tuple", "a": [{"$": M, "s": {}}]},
    "an_int_of_a_text": {"$": "builtins:int", "c": ["9" * 4_000]},
    "a_float_of_a_text": {"$": "builtins:float", "c": ["1"]},
    "bytes_of_a_size": {"$": "builtins:bytes", "c": [10**11]},
    "a_list_of_a_range": {"$": "builtins:list", "c": [{"$": "builtins:range", "c": [0, 10**12, 1]}]},
    "a_range_of_one_argument": {"$": "builtins:range", "c": [10**12]},
    "a_decimal_of_an_int": {"$": "decimal:Decimal", "c": [1]},
    "a_timedelta_of_floats": {"$": "datetime:timedelta", "c": [1.5, 0, 0]},
    "a_date_of_numbers": {"$": "datetime:date", "c": [2026, 1, 1]},
    "a_deque_of_a_list": {"$": "collections:deque", "c": [[1, 2, 3], 2]},
    "an_array_of_no_type": {"$": "array", "n": "no", "f": 1, "b": b""},
    "an_array_of_no_format": {"$": "array", "n": "d", "f": 99, "b": b"x" * 8},
    # time zones and type expressions
    "a_zone_outside_the_folder": {"$": "zone", "n": "../../../etc/passwd"},
    "a_zone_with_an_absolute_path": {"$": "zone", "n": "/etc/passwd"},
    "a_zone_that_is_no_text": {"$": "zone", "n": 1},
    "a_forward_reference": {"$": "generic", "n": "List", "l": ["__import__('os')"]},
    "a_forward_reference_in_a_union": {"$": "generic", "n": "Union", "l": ["__import__('os')", cls("builtins:int")]},
    "a_function_of_typing": {"$": "typing", "n": "get_type_hints"},
    "a_private_name_of_typing": {"$": "generic", "n": "_eval_type", "l": [cls("builtins:int")]},
    "an_expression_of_a_live_class": {"$": "generic", "n": STRATEGY, "l": [cls("builtins:int")]},
    "a_literal_of_an_object": {"$": "generic", "n": "Literal", "l": [{"$": M, "s": {}}]},
    "an_argument_that_is_no_type": {"$": "generic", "n": "builtins:list", "l": [1]},
    "a_union_of_one": {"$": "union", "l": [cls("builtins:int")]},
    "a_union_of_objects": {"$": "union", "l": [{"$": M, "s": {}}, {"$": M, "s": {}}]},
    # cost
    "copies_of_a_list": [{"$": "list", "l": [1] * 200_000, "i": 1}] + [{"$": "builtins:list", "c": [ref(1)]}] * 300,
    "copies_of_bytes": [{"$": "bytearray", "b": b"x" * 500_000, "i": 1}]
    + [{"$": "builtins:bytes", "c": [ref(1)]}] * 9_000,
    "the_text_of_a_shared_list": [
        *(
            [{"$": "list", "l": [1], "i": 1}]
            + [{"$": "list", "l": [ref(i - 1), ref(i - 1)], "i": i} for i in range(2, 40)]
        ),
        {"$": "builtins:str", "c": [ref(39)]},
    ],
    "the_text_of_a_shared_list_in_an_error": [
        *(
            [{"$": "list", "l": [1], "i": 1}]
            + [{"$": "list", "l": [ref(i - 1), ref(i - 1)], "i": i} for i in range(2, 40)]
        ),
        {"$": STATE, "c": [ref(39)]},
    ],
    "deep_tuples_by_reference": [
        {"$": "builtins:tuple", "c": [[1]], "i": 1},
        *({"$": "builtins:tuple", "c": [[ref(i - 1)]], "i": i} for i in range(2, 20_000)),
        {"$": "set", "l": [ref(19_999)]},
    ],
    "deep_named_tuples_by_reference": [
        {"$": PAIR, "a": [1, 2], "i": 1},
        *({"$": PAIR, "a": [1, ref(i - 1)], "i": i} for i in range(2, 14_000)),
        {"$": "set", "l": [ref(13_999)]},
    ],
    "named_tuples_that_hash_in_2_to_the_n": [
        {"$": PAIR, "a": [1, 1], "i": 1},
        *({"$": PAIR, "a": [ref(i - 1), ref(i - 1)], "i": i} for i in range(2, 100)),
        {"$": "set", "l": [ref(99)]},
    ],
    "they_hash_as_keys_too": [
        {"$": PAIR, "a": [1, 1], "i": 1},
        *({"$": PAIR, "a": [ref(i - 1), ref(i - 1)], "i": i} for i in range(2, 100)),
        {"$": "dict", "d": [[ref(99), 1]]},
    ],
    "and_as_the_value_of_an_enum": [
        {"$": PAIR, "a": [1, 1], "i": 1},
        *({"$": PAIR, "a": [ref(i - 1), ref(i - 1)], "i": i} for i in range(2, 100)),
        {"$": STATE, "c": [ref(99)]},
    ],
    "ints_of_one_hash_in_a_set": {"$": "set", "l": colliding(30_000)},
    "ints_of_one_hash_in_a_frozenset": {"$": "frozenset", "l": colliding(30_000)},
    "ints_of_one_hash_as_keys": {"$": "dict", "d": [[key, 1] for key in colliding(30_000)]},
    "ints_of_one_hash_in_an_ordered_dict": {
        "$": "collections:OrderedDict",
        "c": [],
        "d": [[key, 1] for key in colliding(30_000)],
    },
    "ints_of_one_hash_in_a_counter": {
        "$": "collections:Counter",
        "c": [{"$": "dict", "d": [[key, 1] for key in colliding(30_000)]}],
    },
    "tuples_of_one_hash": {"$": "set", "l": tuples_of_one_hash(28_000)},
    "a_huge_int_beside_a_huge_decimal": {
        "$": "set",
        "l": [{"$": "decimal:Decimal", "c": ["1e240000"]}, {"$": "int", "b": (10**240_000).to_bytes(99_800, "big")}],
    },
    "a_union_of_very_many": {"$": "union", "l": [cls("builtins:int")] * 30_000},
    "type_expressions_in_one_another": None,  # made below
    "a_label_on_an_immutable_value": {"$": "decimal:Decimal", "c": ["1"], "i": 1},
    "a_name_of_a_megabyte": {"$": "a" * 499_000 + ":" + "b" * 499_000},
}
_A: Final = "tests.checkpoint_types:"


def labelled_tuple(items: list[Node], label: int) -> Node:
    """An exact tuple that can be referred to, as an object that reduces to one can."""
    return {"$": "builtins:tuple", "c": [{"$": "tuple", "l": items}], "i": label}


def labelled_int(size: int) -> Node:
    return {"$": "builtins:int", "c": [{"$": "int", "b": b"\x7f" * size}], "i": 1}


def doubling(count: int, *last: Node) -> list[Node]:
    """A tuple that holds another twice, and so on: it hashes in 2^count steps, in what comes last."""
    pairs = [labelled_tuple([ref(n - 1), ref(n - 1)], n) for n in range(2, count)]
    return [labelled_tuple([1, 1], 1), *pairs, *last]


def steps_of(count: int) -> list[Node]:
    """Tuples in one another `count` deep, with labels on the way that a set can begin to look from."""
    links = [labelled_tuple([ref(n - 1)], n) for n in range(2, count)]
    return [
        labelled_tuple([1], 1),
        *links,
        {"$": "set", "l": [*(ref(n) for n in range(150, count, 150)), ref(count - 1)]},
    ]


def one_after_another(size: int = 1 << 17, long: int = 58_000, many: int = 28_000, bits: int = 25) -> list[int]:
    """Ints of different hashes, each of which a dict of so many places looks for behind most of the others."""
    chain = [1]
    while len(chain) < long:
        chain.append((5 * chain[-1] + 1) & (size - 1))
    place_of = bytearray(size)
    for index, place in enumerate(chain):
        place_of[place] = 1 if index > long // 2 else 2
    draw, found = random.Random(1).getrandbits, set[int]()
    while len(found) < many:
        number = draw(bits)
        place, perturb = number & (size - 1), number
        while place_of[place] and perturb:
            perturb >>= 5
            place = (5 * place + perturb + 1) & (size - 1)
        if number >= size and place_of[place] == 2:
            found.add(number)
    return chain + sorted(found)


def models_of_equal_hash() -> list[Node]:
    """Two frozen models that are hashed by their fields, and compared by 2^38 lists in what they hold besides."""
    lists: list[Node] = []
    for start in (1, 41):
        lists.append({"$": "list", "l": [1], "i": start})
        lists += [{"$": "list", "l": [ref(n - 1), ref(n - 1)], "i": n} for n in range(start + 1, start + 39)]
    model = {"__dict__": {"known": 1}, "__pydantic_fields_set__": {"$": "set", "l": []}, "__pydantic_private__": None}
    models = [{"$": _A + "OpenModel", "s": model | {"__pydantic_extra__": {"z": ref(last)}}} for last in (39, 79)]
    return [*lists, {"$": "set", "l": models}]


_HUGE: Final = {"$": "builtins:range", "c": [0, 20_000_000, 1]}
_BIG_KEYS: Final = [{"$": "int", "b": (1 + n * (2**61 - 1)).to_bytes(11, "big")} for n in range(20_000)]

CORPUS |= {
    # types of the interpreter that have a kind of their own
    "a_zone_hashes_what_it_is_given": doubling(60, {"$": "zoneinfo:ZoneInfo", "c": [ref(59)]}),
    "a_zone_that_is_no_kind": {"$": "zoneinfo:ZoneInfo", "c": ["posixrules"]},
    "an_array_of_a_range": {"$": "array:array", "c": ["q", _HUGE]},
    "copies_of_bytes_in_arrays": [
        {"$": "bytearray", "b": b"x" * 800_000, "i": 1},
        *([{"$": "array:array", "c": ["B", ref(1)]}] * 1000),
    ],
    # hashing and comparing
    "tuples_as_deep_as_stepping_stones": steps_of(2_000),
    "a_record_with_a_hash_of_its_own": doubling(
        60,
        {
            "$": "set",
            "l": [{"$": "agent_framework_orchestrations._handoff:HandoffConfiguration", "s": {"target_id": ref(59)}}],
        },
    ),
    "models_of_equal_hash": models_of_equal_hash(),
    "ints_that_are_looked_for_behind_all_others": {"$": "dict", "d": [[key, None] for key in one_after_another()]},
    "uuids_of_one_hash": {
        "$": "set",
        "l": [
            {"$": "uuid:UUID", "s": {"int": {"$": "int", "b": (1 + n * (2**61 - 1)).to_bytes(10, "big")}}}
            for n in range(1, 15_000)
        ],
    },
    "a_table_of_a_set_of_pairs": {
        "$": _A + "Table",
        "c": [{"$": "set", "l": [{"$": "tuple", "l": [key, n]} for n, key in enumerate(_BIG_KEYS)]}],
    },
    "sets_of_a_dict_of_one_hash": [
        {"$": "dict", "d": [[key, 1] for key in _BIG_KEYS[:1_000]], "i": 1},
        *([{"$": _A + "Tags", "c": [ref(1)]}] * 20_000),
    ],
    "a_number_in_many_sets": [
        {"$": _A + "Number", "a": [{"$": "int", "b": b"\x7f" * 400_000}], "i": 1},
        *([{"$": "set", "l": [ref(1)]}] * 20_000),
    ],
    "a_large_tuple_in_many_sets": [
        labelled_tuple(list(range(10_000)), 1),
        *([{"$": "set", "l": [ref(1)]}] * 40_000),
    ],
    # copying
    "ranges_of_a_large_int": [labelled_int(400_000), *([{"$": "builtins:range", "c": [0, ref(1), 1]}] * 1_500)],
    "numbers_of_a_large_int": [labelled_int(400_000), *([{"$": _A + "Number", "a": [ref(1)]}] * 1_500)],
    "copies_of_a_set": [
        {"$": "set", "l": list(range(150_000)), "i": 1},
        *([{"$": "builtins:set", "c": [ref(1)]}] * 45),
    ],
    "copies_of_a_counter": [
        {"$": "dict", "d": [[key, None] for key in range(60_000)], "i": 1},
        *([{"$": "collections:Counter", "c": [ref(1)]}] * 600),
    ],
    "one_state_of_many_records": [
        {"$": "dict", "d": [[f"k{n}", None] for n in range(30_000)], "i": 1},
        *([{"$": M, "s": ref(1)}] * 3_000),
    ],
    "one_state_of_many_dataclasses": [
        {"$": "dict", "d": [[f"k{n}", None] for n in range(30_000)], "i": 1},
        *([{"$": HANDOFF, "s": {"$": "tuple", "l": [ref(1), {}]}}] * 3_000),
    ],
    "the_values_of_many_models": [
        {"$": "dict", "d": [[f"k{n}", None] for n in range(30_000)], "i": 1},
        *([{"$": _A + "OpenModel", "s": {"__dict__": {"known": 1}, "__pydantic_extra__": ref(1)}}] * 3_000),
    ],
    # what a second look found
    "a_range_of_two_large_ints": {
        "$": "builtins:range",
        "c": [0, {"$": "int", "b": b"\x7f" * 640_000}, {"$": "int", "b": b"\x7f" * 320_000}],
    },
    "a_set_of_a_large_tuple_again_and_again": [
        labelled_tuple([1] * 300_000, 1),
        {"$": "set", "l": [ref(1)] * 60_000},
    ],
    "an_enum_called_with_many_numbers": [
        {"$": "list", "l": [1.1234567890123e-300] * 10_000, "i": 1},
        {"$": _A + "Colour", "c": [[ref(1)] * 20_000]},
    ],
    "few_chosen_ints_in_many_tallies": [
        {"$": "list", "l": one_after_another(1 << 12, 1_000, 950, 20), "i": 1},
        *([{"$": _A + "Tally", "c": [ref(1)]}] * 20_000),
    ],
    "unions_of_unions": {
        "$": "union",
        "l": [
            {
                "$": "union",
                "l": [
                    {
                        "$": "generic",
                        "n": "builtins:list",
                        "l": [{"$": "ellipsis"} if (40 * group + each) >> bit & 1 else None for bit in range(13)],
                    }
                    for each in range(200)
                ],
            }
            for group in range(40)
        ],
    },
    "a_deque_set_by_index": [
        {
            "$": _A + "Recent",
            "c": [{"$": "list", "l": [1] * 500_000, "i": 2}],
            "d": [[250_000 + n, 1] for n in range(40_000)],
        }
    ],
    "keywords_that_are_an_object": {"$": _A + "Point", "k": {"$": M, "s": {"keys": cls("builtins:list"), "x": 1}}},
    "a_member_by_its_base": {"$": _A + "Kind", "b": "builtins:str", "a": ["zz"]},
    # setters
    "the_arguments_of_an_error_by_slots": {
        "$": ERROR,
        "c": ["x"],
        "s": {"$": "tuple", "l": [None, {"args": _HUGE}]},
    },
    "the_arguments_of_an_error_of_the_application": {"$": _A + "AppError", "c": ["x"], "s": {"args": _HUGE}},
    # what an error would show
    "an_enum_called_with_a_class": {"$": _A + "Kind", "c": [cls(M)]},
    "an_enum_called_with_long_texts": [
        {"$": "list", "l": ["x" * 300_000], "i": 1},
        {"$": _A + "Colour", "c": [[ref(1)] * 20_000]},
    ],
    "an_expected_type_of_a_megabyte": {"$": "builtins:object", "t": "x" * 900_000},
    "a_member_of_a_megabyte": {"$": "enum", "t": STATE, "n": "x" * 900_000},
    # codecs by name, and the like
    "a_text_of_bytes_in_a_codec": {"$": _A + "Name", "c": [b"x", "cp037"]},
    "bytes_of_a_text_in_a_codec": {"$": _A + "Blob", "c": ["x", "punycode"]},
    # values that are none
    "a_uuid_of_nothing": {"$": "uuid:UUID"},
    "a_date_beyond_all": {"$": "datetime:date", "c": [b"\xff\xff\x01\xff"]},
    "a_time_beyond_all": {"$": "datetime:datetime", "c": [b"\x07\xea\x01" + b"\xff" * 7]},
    "a_label_beyond_all": [{"$": "list", "l": [1], "i": 2**60}, ref(2**60)],
    "type_expressions_without_end": [
        {
            "$": "generic",
            "n": "List",
            "l": [{"$": "generic", "n": "List", "l": [{"$": "generic", "n": "Literal", "l": [str(n)]}]}],
        }
        for n in range(10_000)
    ],
}

_nested: Node = cls("builtins:int")
for _ in range(100):
    _nested = {"$": "generic", "n": "builtins:list", "l": [_nested]}
CORPUS["type_expressions_in_one_another"] = _nested

RAW: Final[dict[str, bytes]] = {
    "keys_that_are_arrays_of_one_hash": raw_with("HERE").replace(
        b"\xa4HERE",
        b"\xdf"
        + (45_000).to_bytes(4, "big")
        + b"".join(bytes([0x9F]) + bytes(0xFF - (n >> bit & 1) for bit in range(15)) + b"\x01" for n in range(45_000)),
    ),
    "deep_arrays": raw_with("HERE").replace(b"\xa4HERE", b"\x91" * 900_000 + b"\x01"),
    "deep_maps": raw_with("HERE").replace(b"\xa4HERE", b"\x81\xa1a" * 300_000 + b"\x01"),
}
"""Attacks on the parser itself."""


def attacks(keys: list[str]) -> Iterator[Node]:
    """Attacker-made objects in every argument, attribute and state position of these classes."""
    bait: list[Node] = [
        PREY,
        {"$": M, "s": {name: cls("builtins:type") for name in ("keys", "get", "items", "replace", "extend", "append")}},
        tool(FUNCTIONAL, PREY),
        cls("builtins:type"),
        [PREY],
        {"a": PREY},
        {"$": CONTENT, "s": {"type": "text"}},
        "__import__('os').abort()",
        b"cos\nabort\n.",
        {"$": "set", "l": [1]},
        {"$": "collections:defaultdict", "c": [cls("builtins:list")]},
    ]
    fields = ("type", "additional_properties", "func", "text", "value", "name", "data", "args", "_value_", "state")
    for key in keys:
        for lure in bait:
            yield from ({"$": key, "c": [lure] * count} for count in (1, 2, 3))
            yield from ({"$": key, "a": [lure] * count} for count in (1, 2))
            yield {"$": key, "k": {"x": lure}}
            yield {"$": key, "s": lure}
            yield {"$": key, "s": dict.fromkeys(fields, lure)}
            yield {"$": key, "s": {"$": "tuple", "l": [None, dict.fromkeys(fields, lure)]}}
            yield {"$": key, "c": ["x"], "s": {"x": lure, "__class__": cls(key)}}
            yield {"$": key, "l": [lure]}
            yield {"$": key, "c": [], "d": [[lure, lure]]}
            yield {"$": key, "b": "builtins:object", "a": [lure]}
            yield {"$": "enum", "t": key, "n": "x"}
            yield {"$": "generic", "n": key, "l": [lure]}


_FORBIDDEN: Final = (
    "exec",
    "compile",
    "open",
    "socket.",
    "subprocess.",
    "os.",
    "ctypes.",
    "shutil.",
    "import",
    "marshal.",
)
_watching: list[list[str]] = []


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _watching and event.startswith(_FORBIDDEN):
        _watching[-1].append(f"{event} {str(args)[:200]}")


_hooked: list[bool] = []


@contextmanager
def watched() -> Iterator[list[str]]:
    """The events of the interpreter, while this lasts, that no decode may cause: code that runs, files, the network."""
    if not _hooked:
        sys.addaudithook(_hook)  # cannot be removed
        _hooked.append(True)
    seen: list[str] = []
    _watching.append(seen)
    try:
        yield seen
    finally:
        _watching.pop()
