"""Which sessions a source has: told by an index and documents where there are some, and by the newest events."""

from __future__ import annotations

import pytest

from eventckpt import EventHistoryProvider
from eventckpt.history import SessionInfo, sessions_of
from eventckpt.history.listing import ids_of
from eventckpt.stores import AuditStore
from eventckpt.testing.audit_removals import closing, removal_of
from projections import LatestProjection

from ..conversations import SOURCE, branched, clear_event, session, talked, turn_event
from ..engines import Engine


@pytest.fixture
def whole(engine: Engine) -> AuditStore:
    store = engine.open()
    assert isinstance(store, AuditStore)
    return store


async def project(store: AuditStore) -> None:
    """What a worker of the projector does, once."""
    await LatestProjection(store).apply([header async for header in store.workflow_headers(SOURCE)])


@pytest.mark.parametrize("counted", [True, False])
async def test_documents_count_turns_and_what_they_lack_is_asked_of_the_log(whole: AuditStore, counted: bool) -> None:
    store = whole.sessions()
    one, _ = await talked(store, session("a"), "one", "two")
    branch = await branched(store, one, "other")
    await project(store)
    await talked(store, session("b"), "later")
    a, b = await sessions_of(store, SOURCE, counted=counted)
    assert (a.session_id, a.turns, a.branches) == ("a", 3, 1)
    assert (b.session_id, b.turns, b.branches) == ("b", 1 if counted else None, 0)
    assert await sessions_of(store, SOURCE, prefix="b", counted=counted) == [b]
    assert await sessions_of(store, SOURCE, prefix=branch.run_id) == []
    assert await sessions_of(store, "nobody") == []
    [told, _] = await sessions_of(store, SOURCE, latest="log")
    assert told == a._replace(turns=None)


@pytest.mark.parametrize("is_projected", [True, False])
async def test_what_was_cleared_or_erased_is_no_session_until_it_goes_on(whole: AuditStore, is_projected: bool) -> None:
    store, provider = whole.sessions(), EventHistoryProvider(whole, SOURCE)
    _, last = await talked(store, session("cleared"), "one", "two")
    branch = await branched(store, last, "other")
    await store.append(clear := clear_event(last, **{branch.run_id: 1}))
    await talked(store, session("erased"), "one")
    await provider.erase("erased")

    async def listed() -> list[SessionInfo]:
        if is_projected:
            await project(store)
        return await sessions_of(store, SOURCE)

    assert await listed() == []
    [newest] = await store.read(branch, 1)
    await store.append(turn_event(branch, 2, [], previous=newest))  # a lineage that had not heard of the clear
    assert [(each.session_id, each.branches) for each in await listed()] == [("cleared", 1)]
    await store.append(turn_event(session("cleared"), 4, [], previous=clear))
    assert [(each.session_id, each.branches) for each in await listed()] == [("cleared", 1)]


@pytest.mark.parametrize("is_projected", [True, False])
async def test_a_session_that_was_removed_is_in_no_list_until_it_begins_again(
    whole: AuditStore, is_projected: bool
) -> None:
    store = whole.sessions()
    _, last = await talked(store, session("removed"), "one", "two")
    await talked(store, session("kept"), "one")
    await store.append(closed := closing(last))
    await store.append(removal_of(closed))

    async def listed() -> list[str]:
        if is_projected:
            await project(store)
        return [each.session_id for each in await sessions_of(store, SOURCE)]

    assert await listed() == await ids_of(store, SOURCE) == ["kept"]
    await store.remove(closed.stream, [1, 2])
    assert await listed() == await ids_of(store, SOURCE) == ["kept"]
    await store.append(turn_event(closed.stream, closed.seq + 1, [], previous=closed))
    assert await listed() == await ids_of(store, SOURCE) == ["kept", "removed"]


async def test_a_session_may_be_called_like_a_branch(whole: AuditStore) -> None:
    store = whole.sessions()
    await talked(store, session("s1~0123456789ab"), "one")
    assert [each.session_id for each in await sessions_of(store, SOURCE)] == ["s1~0123456789ab"]
