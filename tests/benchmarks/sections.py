"""The sections of the report, in their order."""

from __future__ import annotations

from typing import Final

from . import (
    audit,
    capacity,
    cosmos,
    deltas,
    history,
    inbox,
    large_stores,
    list_memory,
    loop_hold,
    main_job,
    projector,
    retention,
    saves,
    space,
    start_up,
    transfer,
    viewer,
)
from .section import Section

__all__ = ["SECTIONS"]

_MESSAGES = "A conversation: each superstep adds one message of 80 words and changes one other small value."
_EMULATOR = "On the suite's own Cosmos DB, which runs in a process of its own where time is measured."
_PLAIN = (
    "AsyncSqliteSaver packs dicts into MessagePack and writes all of them in each save. A save here also proves that "
    "what it stores can be loaded, takes its digest and its header, and finds out what is new against the events "
    "before; that is what the bytes below are so few for."
)

SECTIONS: Final[list[Section]] = [
    Section(
        "saves",
        "A save: processor time",
        saves.conversation,
        f"{_MESSAGES} Each contender is a process of its own, and saves one superstep in each turn. The framework "
        "copies the state before each save (`deepcopy`), whatever stores it; that is not part of a save's time here.",
        why={
            "save at 300 messages in plain dicts, CPU": _PLAIN,
            "save at 1,000 messages in plain dicts, CPU": _PLAIN.split(".")[0] + ", as above.",
            "save at 1,000 messages, CPU": "encoding goes through the whole state each time, since the framework hands "
            "over a new copy of it, and takes about half as long as that copy; the rest is to look up what was proven, "
            "the delta and the digest.",
            "save at 300 messages, CPU": "as at 1,000. InMemoryCheckpointStorage copies the state and does no more. "
            "pickle is what C code takes to make bytes of it at all, and bytes that must not be loaded from a store.",
        },
        small={"rounds": 1},
        takes_turns=True,
    ),
    Section(
        "saves",
        "Small saves",
        saves.documents,
        "Bytes that are all new in each superstep and do not compress: what a save costs beside its state. All on "
        "SQLite wait for the disk (`synchronous=FULL`); `FileCheckpointStorage` does not.",
        why={
            "save of 1 KB, CPU": "a bare INSERT has no head to compare, no header, no digest and no thread to go to.",
            "save of 10 KB, CPU": "the same.",
        },
        small={"rounds": 1},
        takes_turns=True,
    ),
    Section(
        "parallel",
        "Many runs at a time",
        saves.parallel,
        "So many runs side by side, each saving 10 KB of state that is all new, one checkpoint after the other. Saves "
        "that wait at the same time share a transaction here; AsyncSqliteSaver has a transaction for each.",
        why={
            "64 runs in parallel, saves a second": "how far one transaction for many is ahead depends on what the disk "
            "takes to confirm one; the faster it is, the more the processor time counts, and a save here does more. "
            "InMemoryCheckpointStorage stores nothing.",
            "256 runs in parallel, saves a second": "the same.",
        },
        small={"saves": 1, "rounds": 1},
        takes_turns=True,
    ),
    Section(
        "hold",
        "The longest hold of the event loop",
        loop_hold.longest_holds,
        "The processor time of the longest callback of the loop, for which all else in it waits; beside the "
        "framework's copy of the same state, or one SHA-256 and one compression of the same bytes.",
        why={
            "SQLite, 5 MB of bytes: longest hold in a save": "about at the bound: the state is encoded before the "
            "first await, since the workflow may change it afterwards, and that copies the bytes.",
            "Cosmos DB, 5 MB of bytes: longest hold in a save": "the same.",
        },
        small={"text": 200_000, "data": 50_000, "messages": 5},
    ),
    Section(
        "bytes",
        "Stored bytes: a conversation",
        deltas.conversation,
        f"{_MESSAGES} Sizes of the files.",
        why={
            "stored bytes, 300 supersteps": "a sixth of the file is what SQLite leaves unused in its pages, a sixth "
            "the headers.",
            "stored bytes, 1000 supersteps": "the same.",
        },
        small={"short": 30, "long": 100},
    ),
    Section(
        "bytes",
        "Stored bytes: states where deltas gain little",
        deltas.plain_snapshots,
        "Against snapshots alone.",
        small={"steps": 5},
    ),
    Section(
        "codec",
        "The codec beside the framework's",
        main_job.codec,
        "A checkpoint to bytes and back.",
        small={"messages": 10, "rounds": 2},
    ),
    Section(
        "codec",
        "The codec and attackers",
        main_job.attacks,
        "Each attack on the codec that was found, of at most 1 MB. The bound is of processor time and no ratio, so "
        "that a slow or busy machine misses it.",
    ),
    Section(
        "sqlite",
        "SQLite: saves",
        main_job.saves,
        "Saves of 10 KB that are all new, by the clock, beside bare SQLite in one process; both wait for the disk.",
        why={
            "sequential saves of 10 KB": "where the disk confirms a write at once, what is left is processor time, "
            "which a bare INSERT hardly has.",
            "64 runs in parallel": "then there is little to share, either.",
        },
        small={"turns": 1},
    ),
    Section(
        "sqlite",
        "SQLite: reads",
        main_job.reads,
        "`FileCheckpointStorage` reads every file to find the latest.",
        small={"supersteps": 5},
    ),
    Section(
        "cosmos",
        "Cosmos DB: request units of a save",
        cosmos.charges,
        f"{_MESSAGES} Request units are the [test server's](cosmos.md#cost), which computes them by the service's "
        "published rules. Upstream's store refuses a checkpoint of more than 2 MB; what is compared ends there.",
        why={
            "RU a superstep, mean of the first 300": "a small item is charged 5 RU, and 0.2 for each indexed term.",
            "RU a superstep, mean of the first 1000": "the snapshots: few, and the dearest of all.",
        },
        small={"short": 50, "long": 60},
    ),
    Section(
        "cosmos",
        "Cosmos DB: one operation after many supersteps",
        cosmos.operations,
        "In a process that has cached nothing of the run. The bound is of the requests, the ratio of the request "
        'units. "+ its bases" are the one or two events that a delta needs.',
        small={"count": 5},
    ),
    Section(
        "cosmos",
        "Cosmos DB: client time of a save",
        cosmos.client_time,
        f"{_EMULATOR} Beside what any storage has to do: encode the checkpoint, and create one item of the same bytes "
        "by a client as the SDK makes it; with and without a check that it can be decoded, which a save here includes.",
        why={
            "save, last 100 of 300, CPU": "what is new is checked, a header is made and given a digest.",
        },
        small={"count": 6, "last": 3, "small": 3},
    ),
    Section(
        "cosmos",
        "Cosmos DB: processor time of a save beside upstream's",
        saves.upstream,
        f"{_MESSAGES} {_EMULATOR}",
        small={"rounds": 1},
        takes_turns=True,
    ),
    Section(
        "cosmos",
        "Cosmos DB: saves until a run is full",
        capacity.capacity,
        "A run is one logical partition, and those hold 20 GB. The bytes are those of the items as they are sent, "
        'carried on with the power of the saves that is in the column "ratio". The service adds some to each item, and '
        "its page counts the index as storage.",
        small={"short": 3, "long": 6, "anew": 2},
    ),
    Section(
        "history",
        "Chat history: requests and request units",
        history.charges,
        "A conversation whose turns are a question of 80 words and an answer of 80, beside upstream's "
        "`CosmosHistoryProvider` on the same server. Upstream reads the whole history in each save.",
        small={"at": [1, 2, 3, 4]},
    ),
    Section(
        "history",
        "Chat history: processor time of a save",
        history.client_time,
        "The same turns on SQLite, of two conversations in one file, in random order.",
        small={"short": 2, "long": 4, "rounds": 4},
    ),
    Section(
        "large",
        "Large stores: the latest",
        large_stores.latest,
        "Small checkpoints on SQLite; the handle that asks remembers nothing of the run.",
        small={"supersteps": 5, "runs": 5, "rounds": 2},
    ),
    Section(
        "large",
        "Large stores: lists",
        large_stores.lists,
        "The SELECT fetches the columns that say which checkpoints live, and makes no objects of them.",
        small={"ids": 20, "runs": 2, "rounds": 2},
    ),
    Section(
        "large",
        "Large stores: verify",
        large_stores.verified,
        "The floor makes each event of bytes in memory and takes its digest; it fetches nothing and follows no chain.",
        why={
            "verify --all, runs of 3 events, for a second of CPU": "beside header and digest, rows are fetched in the "
            "order of their runs, each event is compared with the one before, and the runs are asked for by name.",
        },
        small={"runs": 3, "rounds": 1},
    ),
    Section(
        "large",
        "Large stores: all runs",
        large_stores.all_runs,
        "What goes through all runs, each once.",
        small={"runs": 5},
    ),
    Section(
        "large",
        "Large stores: the memory of a list",
        list_memory.listed,
        f"{_MESSAGES} A list of all checkpoints has each whole state, by the framework's contract.",
        why={
            "list_checkpoints of 1,000 supersteps, memory": "copies in memory share each text; so do those of one list "
            "here, and what is read meanwhile comes on top.",
        },
        small={"supersteps": 20},
    ),
    Section(
        "inbox",
        "The inbox: its first page",
        inbox.command,
        "Every run waits for an answer, and the projection is filled. Whole programs: what they take is for the most "
        "part to start, and to import what reads a store.",
        small={"runs": 3, "events": 2, "rounds": 1},
    ),
    Section(
        "inbox",
        "The inbox on Cosmos DB",
        inbox.queries,
        "On the suite's own Cosmos DB: queries for the first 100 runs that wait, of so many that all do.",
        small={"documents": (3, 60, 120)},
    ),
    Section(
        "commands",
        "Commands: their first page",
        inbox.first_pages,
        "Whole programs, as for the inbox; the projection is filled.",
        small={"runs": 3, "events": 2, "rounds": 1},
    ),
    Section(
        "viewer",
        "The viewer: the first page of all runs",
        viewer.first_page,
        "Processor time in one process, without a socket. The page reads 51 documents by the same index and makes HTML "
        "of 50; it takes the same over any number of runs.",
        small={"runs": 60, "rounds": 1},
    ),
    Section(
        "viewer",
        "The viewer: a run",
        viewer.one_run,
        "Processor time in one process, without a socket. Both read each header once; the page sums them up and shows "
        "a hundred, and the lines are of all.",
        small={"events": 30, "rounds": 1},
    ),
    Section(
        "viewer",
        "The viewer: an event",
        viewer.one_event,
        "Processor time in one process, without a socket. Both read the whole state as a tree; the line has all of it, "
        "and the page what it has room for.",
        small={"messages": 30, "rounds": 1},
    ),
    Section(
        "viewer",
        "The viewer: what is sent",
        viewer.sent,
        "Bytes of whole answers, without compression. A page leaves out what does not fit, and says so; that none is "
        "larger, whatever a store holds, is tested. A browser loads the two files once.",
        small={"events": 5, "messages": 30},
    ),
    Section(
        "audit",
        "Audits: a large store",
        audit.commands,
        "Commands in processes of their own, as a person waits for them, by the clock. The bounds are of seconds, so "
        "that a slow or busy machine misses them.",
        small={"runs": 20, "rounds": 1},
    ),
    Section(
        "audit",
        "Audits: a deep diff",
        audit.diffs,
        "Beside loading both checkpoints.",
        small={"size": 10, "rounds": 2},
    ),
    Section(
        "space",
        "SQLite: the disk gets room back",
        space.given_back,
        "Events of up to 3 KB that do not compress; of each run the last ones stay. It is given back in steps that "
        "others write between, each with a flush of its own; `compact --rewrite` is VACUUM, while nobody has the file "
        "open.",
        small={"runs": 3, "each": 20, "kept": 4},
    ),
    Section(
        "transfer",
        "Import: memory",
        transfer.memory,
        "The most memory that `eventckpt import` takes of a file, beside a file of a tenth.",
        small={"megabytes": 2},
    ),
    Section(
        "start-up",
        "Start-up",
        start_up.imports,
        "Processor time of whole interpreters, each with one import. The framework's module is what any store of "
        "checkpoints needs.",
        why={"import eventckpt, CPU": "the codec's libraries come on top."},
        small={"rounds": 2},
        takes_turns=True,
    ),
    Section(
        "viewer",
        "The viewer: start-up",
        viewer.start_up,
        "Whole programs, in turns; the projection is filled.",
        small={"runs": 3, "events": 2, "rounds": 1},
    ),
    Section(
        "projector",
        "The projector",
        projector.figures,
        "One worker; the bare reader of the feed asks for pages of the same size.",
        why={
            "Cosmos DB (test server), one worker": "a page is made into events before the next one is asked for, and "
            "documents are written."
        },
        small={"events": 500, "rounds": 1, "seconds": 0.5, "minutes": 1, "trials": 2},
    ),
    Section(
        "retention",
        "A policy carried out",
        retention.passes,
        "Runs that have ended long ago, on SQLite, without waiting for the disk (`synchronous=OFF`). A pass plans each "
        "run from its headers, records its removal, and removes its events; the plan alone reads the same headers. "
        "Giving the room back, which ends it, is a line of its own, and what `space` measures. "
        "A day's pass is over a store in which one run of thirty is old enough. What grows with the number of runs is "
        "the names that the listing has given, so that none comes twice: 300 bytes a run.",
        why={
            "a pass that removes 10,000 runs of 20, CPU": "each row that goes is in three indexes.",
        },
        small={"runs": 60, "events": 3, "rounds": 1},
    ),
]
