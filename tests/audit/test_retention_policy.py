"""What a retention policy may say, and which mistakes in one are refused before anything is looked at."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from eventckpt import RetentionPolicyError, SqliteEventStore, StreamId
from eventckpt.audit import Retention, RetentionPolicy, RetentionRule
from eventckpt.events import RunInfo
from eventckpt.stores.conformance import make_event

DAY = timedelta(days=1)

WHOLE = """
[rules."old orders"]
workflow = "orders"
status = ["done", "cancelled"]
tags = { customer = "c-17" }
keep = 3
remove_after = "30d"
archive = "archives"

[rules.running]
workflow = "orders"
status = "running"
unfinished = true
keep = 20

[rules.chats]
workflow = "chat"
turns = true
optional = true
remove_after = "52w"
"""


def loaded(folder: Path, text: str) -> RetentionPolicy:
    path = folder / "retention.toml"
    path.write_text(text)
    return RetentionPolicy.load(path)


def test_a_file_says_what_the_objects_say(tmp_path: Path) -> None:
    old, running, chats = loaded(tmp_path, WHOLE).rules
    assert old == RetentionRule(
        name="old orders",
        workflow="orders",
        status=("done", "cancelled"),
        tags={"customer": "c-17"},
        keep=3,
        remove_after=30 * DAY,
        archive=tmp_path / "archives",
    )
    assert (running.statuses, running.unfinished, running.keep, running.remove_after) == (("running",), True, 20, None)
    assert (chats.turns, chats.optional, chats.remove_after, chats.archive) == (True, True, 364 * DAY, None)


def test_a_rule_that_names_no_status_is_for_runs_that_have_ended() -> None:
    assert RetentionRule(name="r", workflow="*", keep=1).statuses == ("done", "failed", "cancelled")


RULE = '[rules.r]\nworkflow = "w"\nkeep = 1\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "it has no [rules.NAME]"),
        ("[rules]\n", "A retention policy has at least one rule"),
        ("rules = 1\n", "it has no [rules.NAME]"),
        ("[rule.r]\n", "the key 'rule' is not known"),
        (f"{RULE}kep = 2\n", "rule 'r': the key 'kep' is not known"),
        (f"{RULE}keep = 2\n", "at line 4"),
        ("[rules.r]\nkeep = 1\n", "rule 'r': workflow is missing"),
        ('[rules.r]\nworkflow = "w"\n', "rule 'r': keep, remove_after or both"),
        ('[rules.r]\nworkflow = " "\nkeep = 1\n', "rule 'r': workflow is blank"),
        ('[rules.r]\nworkflow = "w"\nkeep = 0\n', "rule 'r': keep is at least 1"),
        ('[rules.r]\nworkflow = "w"\nkeep = "1"\n', "rule 'r': keep is a whole number, not '1'"),
        (f'{RULE}remove_after = "month"\n', "rule 'r': remove_after takes a span such as 12h, 30d or 52w, not 'month'"),
        (f'{RULE}remove_after = "-1d"\n', "rule 'r': remove_after takes a span"),
        (f'{RULE}status = "waiting"\n', "rule 'r': status names waiting, and such runs have not ended: say unfinished"),
        (f'{RULE}status = ["done", "open"]\n', "rule 'r': status names open"),
        (f"{RULE}unfinished = true\n", "rule 'r': unfinished is true, and status names none of running, waiting, open"),
        (f'{RULE}status = "finished"\n', "rule 'r': status is "),
        (f"{RULE}status = []\n", "rule 'r': status is empty"),
        (f"{RULE}status = [1]\n", "rule 'r': status takes strings"),
        (f"{RULE}status = 1\n", "rule 'r': status takes a list of strings"),
        (f'{RULE}turns = "yes"\n', "rule 'r': turns is True or False, not 'yes'"),
        (f"{RULE}tags = {{ a = 1 }}\n", "rule 'r': tags has texts by their names, and 1 is none"),
        (f"{RULE}archive = 1\n", "rule 'r': archive is text, not 1"),
        (f'{RULE}archive = ""\n', "rule 'r': archive is blank"),
        (f'{RULE}archive = "a\\u0000b"\n', "rule 'r': archive is the path of a directory"),
        (f"{RULE}remove_after = 30\n", "rule 'r': remove_after takes a span"),
        (f"{RULE}name = 's'\n", "rule 'r': the key 'name' is not known"),
        ("[rules]\nr = 1\n", "rule 'r': it is a table"),
        (f"{RULE}tags = {'[' * 3000}", "nested too deep"),
        (f'{RULE}status = "idle"\n', "rule 'r': status is "),
        (f'{RULE}turns = true\nstatus = "done"\n', "rule 'r': status, tags and unfinished are of runs"),
        (f'{RULE}turns = true\ntags = {{ a = "b" }}\n', "rule 'r': status, tags and unfinished are of runs"),
        ('[rules.r]\nworkflow = "*"\nkeep = 1\noptional = true\n', "rule 'r': optional is of a rule for one workflow"),
        (f'{RULE}[rules.s]\nworkflow = "w"\nkeep = 2\n', "Rules 'r' and 's' contradict each other"),
        (f'{RULE}[rules.s]\nworkflow = "w"\nkeep = 2\nstatus = "failed"\n', "Rules 'r' and 's' contradict each other"),
        (f"{RULE}[rules.r]\nkeep = 2\n", "line"),
        ("[rules.r\n", "line 1"),
        ("\0", "is no retention policy"),
        ("#" * 1_100_000, "more than 1,048,576 bytes"),
    ],
)
def test_a_file_with_a_mistake_is_refused_and_the_rule_and_the_key_are_named(
    tmp_path: Path, text: str, says: str
) -> None:
    with pytest.raises(RetentionPolicyError) as refused:
        loaded(tmp_path, text)
    assert says in str(refused.value)
    assert str(refused.value).startswith(str(tmp_path / "retention.toml"))
    assert "\n" not in str(refused.value)


def test_the_mark_that_windows_puts_before_a_text_is_none_of_it(tmp_path: Path) -> None:
    assert loaded(tmp_path, f"\ufeff{RULE}").rules[0].name == "r"


@pytest.mark.parametrize("text", [f"{RULE}{'k' * 5000} = 1\n", f"{'k' * 5000} = 1\n", f"[rules.{'k' * 5000}]\n"])
def test_a_long_key_is_cut_where_it_is_told_of(tmp_path: Path, text: str) -> None:
    with pytest.raises(RetentionPolicyError) as refused:
        loaded(tmp_path, text)
    assert len(str(refused.value)) < len(str(tmp_path)) + 500


VALUES = [
    *("1", "-1", "1" + "0" * 400, "1.5", "nan", "inf", "true", '""', '"\\u0000"', '"30d"', '"999999999w"', "[]"),
    *('["done"]', '["done", 1]', "[[]]", "{}", "{ a = 1 }", '{ a = "b" }', "[{}]", "1979-05-27", "07:32:00"),
]
KEYS = ("workflow", "keep", "remove_after", "archive", "status", "tags", "turns", "unfinished", "optional", "name")


@pytest.mark.parametrize("seed", range(20))
def test_whatever_a_file_says_it_is_a_policy_or_is_refused(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(30):
        keys = chance.sample(KEYS, chance.randint(0, 4))
        text = "".join(f"{key} = {chance.choice(VALUES)}\n" for key in keys)
        text = (RULE if chance.random() < 0.5 else "[rules.r]\n") + text
        cut = chance.randrange(len(text)) if chance.random() < 0.2 else len(text)
        said = ""
        try:
            loaded(tmp_path, text[:cut])
        except RetentionPolicyError as refused:
            said = str(refused)
        assert not {"$", "\n"} & set(said)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RetentionPolicyError, match="No such file"):
        RetentionPolicy.load(tmp_path / "retention.toml")


@pytest.mark.parametrize(
    "fields",
    [
        {"remove_after": -DAY},
        {"remove_after": 30},
        {"keep": True},
        {"archive": "archives"},
        {"turns": 1},
        {"name": ""},
        {"workflow": 3},
        {"status": "done"},
        {"tags": ["a"]},
    ],
)
def test_an_argument_of_another_form_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        RetentionRule(**{"name": "r", "workflow": "w", "keep": 1, **fields})


def rule(name: str, workflow: str = "w", **fields: Any) -> RetentionRule:
    return RetentionRule(name=name, workflow=workflow, keep=1, **fields)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (rule("a"), rule("b", "v")),
        (rule("a"), rule("b", "*")),
        (rule("a"), rule("b", tags={"x": "1"})),
        (rule("a"), rule("b", turns=True)),
        (rule("a", status=("done",)), rule("b", status=("failed",))),
        (rule("a", tags={"x": "1", "y": "2"}), rule("b", tags={"x": "2"})),
    ],
)
def test_rules_that_no_run_can_be_in_doubt_between_go_together(one: RetentionRule, other: RetentionRule) -> None:
    assert RetentionPolicy([one, other]).rules == (one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (rule("a"), rule("a", "v")),
        (rule("a"), rule("b")),
        (rule("a", "*"), rule("b", "*")),
        (rule("a", status=("done", "failed")), rule("b", status=("failed", "cancelled"))),
        (rule("a", tags={"x": "1"}), rule("b", tags={"x": "1"})),
        (rule("a", tags={"x": "1"}), rule("b", tags={"y": "2"})),
        (rule("a", turns=True), rule("b", turns=True)),
    ],
)
def test_rules_that_both_fit_a_run_contradict_each_other(one: RetentionRule, other: RetentionRule) -> None:
    with pytest.raises(RetentionPolicyError, match=r"contradict|are called"):
        RetentionPolicy([one, other])


def test_a_rule_that_names_the_workflow_goes_first_and_then_one_with_tags() -> None:
    every, tagged = rule("every", "*"), rule("every tagged", "*", tags={"x": "1"})
    named, both = rule("named"), rule("named and tagged", tags={"x": "1"})
    policy = RetentionPolicy([every, tagged, named, both, rule("session", "*", turns=True)])

    def of(workflow: str, **fields: Any) -> str:
        info = RunInfo(workflow_name=workflow, run_id="r", seq=1, digest="", **{"status": "done", **fields})
        found = policy.rule_of(info)
        return found.name if found else ""

    assert of("w", tags={"x": "1"}) == "named and tagged"
    assert of("w", tags={"x": "2"}) == "named"
    assert of("v", tags={"x": "1", "y": "2"}) == "every tagged"
    assert of("v") == "every"
    assert of("v", status="open") == ""


@pytest.mark.parametrize("turns", [False, True])
async def test_a_rule_for_a_workflow_that_the_store_does_not_have_is_refused_before_anything_is_removed(
    tmp_path: Path, *, turns: bool
) -> None:
    async with SqliteEventStore(tmp_path / "events.db") as store:
        await store.append(make_event(StreamId("orders", "r"), 1))
        await store.sessions().append(make_event(StreamId("chats", "s"), 1))
        misspelt = RetentionPolicy([rule("all", "*"), rule("r", "ordres", turns=turns)])
        retention = Retention(store, misspelt)
        with pytest.raises(RetentionPolicyError, match=r"'r' is for .* 'ordres', and the store has none"):
            await retention.carry_out()
        with pytest.raises(RetentionPolicyError, match="optional = true"):
            [plan async for plan in retention.plan()]
        optional = RetentionPolicy([rule("r", "ordres", turns=turns, optional=True)])
        await Retention(store, optional).carry_out()
        there = RetentionPolicy([rule("r", "chats" if turns else "orders", turns=turns)])
        await Retention(store, there).carry_out()
