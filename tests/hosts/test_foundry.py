"""Behind Foundry's own server: what one process has paused, the next one goes on with, and each user with their own."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from eventckpt import SqliteCheckpointStorage
from eventckpt.history.snapshots import APPROVALS, FOUNDRY_SESSIONS

from .processes import served

host = partial(served, "foundry_process")

each_workflow = pytest.mark.parametrize("kind", ["workflow", "workflow-agent"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def asks(text: str, **fields: Any) -> dict[str, Any]:
    return {"user": fields.pop("user", None), "body": {"input": text, **fields}}


def answers(paused: dict[str, Any], output: str, **fields: Any) -> dict[str, Any]:
    """The answer to the question that a response has ended with."""
    [question] = [item for item in paused["output"] if item["type"] == "function_call"]
    reply = {"type": "function_call_output", "call_id": question["call_id"], "output": output}
    if "conversation" not in fields:
        fields |= {"previous_response_id": paused["id"], "agent_session_id": paused["agent_session_id"]}
    return {"user": fields.pop("user", None), "body": {"input": [reply], **fields}}


def text_of(response: dict[str, Any]) -> str:
    assert response["status"] == "completed", response
    return "".join(part["text"] for item in response["output"] if item["type"] == "message" for part in item["content"])


@each_workflow
@pytest.mark.parametrize("named", [False, True], ids=["a response", "a conversation"])
async def test_a_question_is_asked_in_one_process_and_answered_in_the_next(path: Path, kind: str, named: bool) -> None:
    where: dict[str, Any] = {"conversation": {"id": "conv_1"}} if named else {}
    [paused] = host(kind, path, asks("kettles", **where))
    [done] = host(kind, path, answers(paused, "5", **where))
    assert text_of(done) == "How many kettles? 5."


@each_workflow
async def test_nobody_answers_the_question_of_another_user(path: Path, kind: str) -> None:
    [paused] = host(kind, path, asks("kettles", user="anna"))
    [refused, done] = host(kind, path, answers(paused, "6", user="ben"), answers(paused, "5", user="anna"))
    assert refused["code"] != 200 or refused["status"] == "failed"
    assert text_of(done) == "How many kettles? 5."


async def test_two_users_in_conversations_of_one_name_are_in_two(path: Path) -> None:
    where = {"conversation": {"id": "conv_1"}}
    paused = {
        user: host("workflow-agent", path, asks(f"kettles for {user}", user=user, **where))[0]
        for user in ("anna", "ben")
    }
    for user, response in paused.items():
        [done] = host("workflow-agent", path, answers(response, "5", user=user, **where))
        assert text_of(done) == f"How many kettles for {user}? 5."


async def test_an_agent_remembers_over_processes_what_its_user_has_said(path: Path) -> None:
    where = {"conversation": {"id": "conv_1"}}
    said = [text_of(host("agent", path, asks("hello", user=user, **where))[0]) for user in ("anna", "anna", "ben")]
    assert said == ["1 so far", "2 so far", "1 so far"]


async def test_a_response_goes_on_from_the_one_that_it_names(path: Path) -> None:
    [first] = host("agent", path, asks("hello"))
    [second] = host("agent", path, asks("hello", previous_response_id=first["id"]))
    [again] = host("agent", path, asks("hello", previous_response_id=first["id"]))
    assert [text_of(each) for each in (first, second, again)] == ["1 so far", "2 so far", "2 so far"]


@pytest.mark.parametrize("approved", [True, False])
async def test_a_call_that_waits_for_an_approval_waits_in_the_store(path: Path, approved: bool) -> None:
    [paused] = host("agent", path, asks("delete x", user="anna"))
    [request] = [item for item in paused["output"] if item["type"] == "mcp_approval_request"]
    reply = {"type": "mcp_approval_response", "approval_request_id": request["id"], "approve": approved}
    body = {"input": [reply], "previous_response_id": paused["id"]}
    refused, done = host("agent", path, {"user": "ben", "body": body}, {"user": "anna", "body": body})
    assert refused["code"] != 200 or refused["status"] == "failed"
    assert ("deleted x" in text_of(done)) is approved


async def test_what_a_host_keeps_is_in_the_log_of_sessions_and_runs_in_that_of_runs(path: Path) -> None:
    host("agent", path, asks("delete x", user="anna", conversation={"id": "conv_1"}))
    host("workflow", path, asks("kettles", user="anna"))
    async with SqliteCheckpointStorage(path) as storage:
        kept = {stream.workflow_name async for stream in storage.store.sessions().streams()}
        runs = {stream.workflow_name async for stream in storage.store.streams()}
    assert (kept, runs) == ({FOUNDRY_SESSIONS, APPROVALS}, {"orders"})
