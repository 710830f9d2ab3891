"""A workflow survives the death of its process: what eventckpt is for, in one run.

Shows: checkpoints bound to one run (`for_run`), a resume in another process, and the log that both processes wrote,
one event per superstep, read without decoding any state; and the projector, which catches up on that log. The workflow
itself is in `incident.py`.

Run it:   python samples/quickstart.py [--store PATH] [--web]
You see:  a process that kills itself in the middle of its work, another that goes on from there, the log of the run,
          and the result. The exit code is 0 only if nothing was done twice and the result is that of a run which
          nobody killed; then where a browser would show the run. With --web the viewer is there until Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlencode

import incident
from printing import indented, plain, print_in_turns, table, verdict

from eventckpt import CheckpointEvent, RunInfo, SqliteCheckpointStorage, StreamId
from projections import ChangeFeedProcessor, LatestProjection, compare, open_engine

REPORT = Path(__file__).parent / "data" / "incident-report.txt"
RUN_ID = "incident-4471"
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows has no SIGKILL; there, SIGTERM kills as surely


def open_storage(path: Path, *, actor: str | None = None) -> SqliteCheckpointStorage:
    return SqliteCheckpointStorage(path, allowed_checkpoint_types=incident.STATE_TYPES, actor=actor)


# What the two processes do


async def work(path: Path, journal: Path, process: str) -> None:
    """Go on with the run from its latest checkpoint or, where there is none, begin it."""
    async with open_storage(path, actor=process) as storage:
        run = storage.for_run(RUN_ID)
        workflow = incident.build(on_planner_start=die if process == "first" else lambda: None)
        latest = await run.get_latest(workflow_name=workflow.name)
        if latest is None:
            print("  no checkpoint of this run: begins it")
            events = workflow.run(str(REPORT), checkpoint_storage=run, stream=True)
        else:
            head = (await history(storage))[-1]
            writer = plain(head.actor or "")
            print(f"  resumes from seq {head.seq}, superstep {head.iteration_count}, by the {writer} process")
            events = workflow.run(checkpoint_id=latest.checkpoint_id, checkpoint_storage=run, stream=True)
        async for event in events:
            if event.type == "executor_completed":
                print(f"  {event.executor_id} done")
                note(journal, f"{process} {event.executor_id}")


def die() -> NoReturn:
    print(f"  planner begins, and the process dies of {KILL.name}")
    os.kill(os.getpid(), KILL)
    raise AssertionError("nobody survives that")


def note(journal: Path, line: str) -> None:
    """Evidence apart from the store: which process finished which executor."""
    with journal.open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


# What starts them, and looks at what they left


def demonstrate(path: Path, journal: Path) -> bool:
    def start(process: str) -> int:
        print(f"\nTHE {process.upper()} PROCESS")
        options = ["--store", path, "--journal", journal, "--process", process]
        return subprocess.run([sys.executable, __file__, *options], check=False).returncode

    print(f"Five executors review an incident report: {' -> '.join(incident.EXECUTORS)}; the analyst is an Agent.")
    print(f"Each superstep becomes one event of run {RUN_ID!r} in {plain(str(path))}")
    journal.touch()
    exit_codes = [start("first"), start("second")]
    log, result = asyncio.run(look(path))
    expected = asyncio.run(undisturbed())
    run, agrees = asyncio.run(project(path))
    print(f"\nTHE LOG OF THE RUN, read without decoding any state\n{render(log)}")
    print(f"\nTHE RESULT\n{indented(result)}")
    print("\nTHE PROJECTION, which the projector made of the log")
    print(f"  {run.run_id}: {run.status}, at seq {run.seq}, {run.checkpoints} checkpoints, {run.stored_size} bytes")

    finished = journal.read_text(encoding="utf-8").splitlines()
    checks = {
        "the first process was killed, the second ended well": [abs(code) for code in exit_codes] == [KILL, 0],
        "what was done before the kill was not done again": finished
        == ["first reader", "first analyst", "second planner", "second reviewer", "second editor"],
        "the result is that of a run which nobody killed": result == expected,
        "the projection says what the log says": agrees,
    }
    return verdict(checks)


async def look(path: Path) -> tuple[list[CheckpointEvent], str]:
    """The run's events, without their payloads, and the result, which the last checkpoint holds."""
    async with open_storage(path) as storage:
        latest = await storage.for_run(RUN_ID).get_latest(workflow_name=incident.NAME)
        return await history(storage), latest.state.get("brief", "") if latest else ""


async def history(storage: SqliteCheckpointStorage) -> list[CheckpointEvent]:
    return [header async for header in storage.store.headers(StreamId(incident.NAME, RUN_ID))]


async def project(path: Path) -> tuple[RunInfo, bool]:
    """What the run amounts to, once the projector has caught up, and whether that is what the log says."""
    async with open_storage(path) as storage:
        engine = open_engine(storage.store)
        runs, leases = storage.store.run_store(), engine.leases("quickstart")
        async with ChangeFeedProcessor(engine.feed, leases, LatestProjection(storage.store).apply) as processor:
            await processor.caught_up()
        [run] = [info async for info in runs.all()]
        return run, not [difference async for difference in compare(storage.store, engine.feed, runs)]


async def undisturbed() -> str:
    """The result of a run that nobody kills, without checkpoints."""
    return (await incident.build().run(str(REPORT))).get_outputs()[0]


def render(log: list[CheckpointEvent]) -> str:
    return table(
        ["seq", "time", "type", "superstep", "in flight from", "raw", "stored", "digest", "written by"],
        [
            [
                event.seq,
                event.timestamp[11:23],
                event.type,
                event.iteration_count,
                ", ".join(event.summary.messages) or "none",
                event.payload.raw_size if event.payload else "",
                event.payload.stored_size if event.payload else "",
                event.digest[:8],
                f"{event.actor} process",
            ]
            for event in log
        ],
        right="seq superstep raw stored",
    )


# What shows it in a browser

VIEWER = [sys.executable, "-m", "eventckpt.web"]
PAGE = "run?" + urlencode({"run": RUN_ID, "workflow": incident.NAME})


def say_how_to_look(kept: Path | None) -> None:
    print("\nIN A BROWSER")
    start = f"eventckpt-web --store {plain(str(kept))}" if kept else "make demo WEB=1"
    print(f"  {start} shows this run at http://127.0.0.1:8321/{PAGE}")


def show(path: Path) -> int:
    """Let the viewer run over the store until a signal ends it; its exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print("\nIN A BROWSER", flush=True)
    with subprocess.Popen([*VIEWER, "--store", path], stdout=subprocess.PIPE, encoding="utf-8") as viewer:
        try:
            address = viewer.stdout.readline().strip() if viewer.stdout else ""
            if address:
                print(f"  {address}{PAGE} shows this run, until Ctrl-C", flush=True)
            return viewer.wait()
        except KeyboardInterrupt:
            viewer.terminate()
            return viewer.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description="A workflow survives the death of its process.")
    parser.add_argument("--store", type=Path, help="keep the store here; default: a temporary folder")
    parser.add_argument("--web", action="store_true", help="then show the run in a browser")
    parser.add_argument("--journal", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--process", choices=["first", "second"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    print_in_turns()
    if args.process:
        asyncio.run(work(args.store, args.journal, args.process))
        return 0
    if args.store and args.store.exists():
        parser.error(f"{plain(str(args.store))} exists already; this demonstration begins with an empty store")
    with tempfile.TemporaryDirectory() as folder:
        path = args.store or Path(folder, "quickstart.db")
        well = demonstrate(path, Path(folder, "journal.txt"))
        if args.web:
            return show(path) or int(not well)
        say_how_to_look(args.store)
        return int(not well)


if __name__ == "__main__":
    sys.exit(main())
