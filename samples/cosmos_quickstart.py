"""The quickstart on Azure Cosmos DB: the process dies, and another one goes on, from any machine.

Shows: `CosmosCheckpointStorage` with its settings from the environment or a `.env` file; runs bound with `for_run`; the
log, read by one query that transfers no state. The workflow is in `incident.py`, as for `quickstart.py`.

Run it:   python samples/cosmos_quickstart.py                       on the test server of the checkout, which it starts
          AZURE_COSMOS_ENDPOINT=… AZURE_COSMOS_KEY=… AZURE_COSMOS_DATABASE_NAME=… AZURE_COSMOS_CONTAINER_NAME=… \\
              python samples/cosmos_quickstart.py                   on an account
          python samples/cosmos_quickstart.py --env-file .env       likewise, with these settings in a file
          python samples/cosmos_quickstart.py --emulator            on the test server, whatever the environment says
You see:  what `quickstart.py` shows. Each demonstration is a run of its own, and on an account it stays there. The exit
          code is 0 only if nothing was done twice and the result is that of a run which nobody killed.
Needs:    an account, or the checkout: the test server is in tests/cosmos_emulator, which no package has.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import incident
from printing import indented, print_in_turns, verdict
from quickstart import KILL, REPORT, die, note, render, undisturbed

from eventckpt import CheckpointEvent, CosmosCheckpointStorage, StreamId

ROOT = Path(__file__).parent.parent
SERVER = "tests/cosmos_emulator"
ENDPOINT = "AZURE_COSMOS_ENDPOINT"


def open_storage(env_file: str | None, *, actor: str | None = None) -> CosmosCheckpointStorage:
    """Endpoint, key, database and container come from `env_file` or the environment."""
    return CosmosCheckpointStorage(env_file_path=env_file, allowed_checkpoint_types=incident.STATE_TYPES, actor=actor)


# What the two processes do


async def work(env_file: str | None, run_id: str, journal: Path, process: str) -> None:
    """Go on with the run from its latest checkpoint or, where there is none, begin it."""
    async with open_storage(env_file, actor=process) as storage:
        run = storage.for_run(run_id)
        workflow = incident.build(on_planner_start=die if process == "first" else lambda: None)
        latest = await run.get_latest(workflow_name=workflow.name)
        if latest is None:
            print("  no checkpoint of this run: begins it")
            events = workflow.run(str(REPORT), checkpoint_storage=run, stream=True)
        else:
            print(f"  resumes from superstep {latest.iteration_count}")
            events = workflow.run(checkpoint_id=latest.checkpoint_id, checkpoint_storage=run, stream=True)
        async for event in events:
            if event.type == "executor_completed":
                print(f"  {event.executor_id} done")
                note(journal, f"{process} {event.executor_id}")


# What starts them, and looks at what they left


def demonstrate(env_file: str | None, journal: Path) -> bool:
    run_id = f"incident-4471-{uuid.uuid4().hex[:8]}"

    def start(process: str) -> int:
        print(f"\nTHE {process.upper()} PROCESS")
        options = ["--run", run_id, "--journal", journal, "--process", process]
        options += ["--env-file", env_file] if env_file else []
        return subprocess.run([sys.executable, __file__, *options], check=False).returncode

    print(f"Five executors review an incident report: {' -> '.join(incident.EXECUTORS)}; the analyst is an Agent.")
    print(f"Each superstep becomes one item of run {run_id!r}.")
    journal.touch()
    exit_codes = [start("first"), start("second")]
    log, result = asyncio.run(look(env_file, run_id))
    expected = asyncio.run(undisturbed())
    print(f"\nTHE LOG OF THE RUN, read without decoding any state\n{render(log)}")
    print(f"\nTHE RESULT\n{indented(result)}")

    finished = journal.read_text(encoding="utf-8").splitlines()
    return verdict(
        {
            "the first process was killed, the second ended well": [abs(code) for code in exit_codes] == [KILL, 0],
            "what was done before the kill was not done again": finished
            == ["first reader", "first analyst", "second planner", "second reviewer", "second editor"],
            "the log has no gap, and no two events at one seq": [event.seq for event in log] == [1, 2, 3, 4, 5, 6],
            "the result is that of a run which nobody killed": result == expected,
        }
    )


async def look(env_file: str | None, run_id: str) -> tuple[list[CheckpointEvent], str]:
    """The run's events, without their payloads, and the result, which the last checkpoint holds."""
    async with open_storage(env_file) as storage:
        latest = await storage.for_run(run_id).get_latest(workflow_name=incident.NAME)
        log = [header async for header in storage.store.headers(StreamId(incident.NAME, run_id))]
        return log, latest.state.get("brief", "") if latest else ""


@contextmanager
def emulator() -> Generator[None, None, None]:
    """The repository's test server on a free port of this machine, and the settings that lead to it."""
    if not (ROOT / SERVER).is_dir():
        sys.exit(f"The test server is not here: it needs the checkout, with {SERVER}. {ENDPOINT} may name an account.")
    key = base64.b64encode(os.urandom(64)).decode()
    command = [sys.executable, "-m", SERVER.replace("/", "."), "--port", "0", "--key", key]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            endpoint = process.stdout.readline().strip()
            if not endpoint:
                raise RuntimeError("The test server did not start.")
            os.environ |= {
                ENDPOINT: endpoint,
                "AZURE_COSMOS_KEY": key,
                "AZURE_COSMOS_DATABASE_NAME": "samples",
                "AZURE_COSMOS_CONTAINER_NAME": "checkpoints",
            }
            print(f"This uses the test server of the checkout ({SERVER}), and no account: {ENDPOINT} would name one.")
            print(f"It listens on {endpoint} and keeps everything in memory.")
            yield
        finally:
            process.terminate()


def main() -> int:
    parser = argparse.ArgumentParser(description="A workflow survives the death of its process, on Azure Cosmos DB.")
    parser.add_argument("--emulator", action="store_true", help=f"on the test server; the default without {ENDPOINT}")
    parser.add_argument("--env-file", help="a .env file with the AZURE_COSMOS_* settings of an account")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--journal", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--process", choices=["first", "second"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    print_in_turns()
    if args.process:
        asyncio.run(work(args.env_file, args.run, args.journal, args.process))
        return 0
    if args.emulator and args.env_file:
        parser.error("--emulator has settings of its own; leave out --env-file")
    wanted = args.emulator or not (args.env_file or os.environ.get(ENDPOINT))
    with tempfile.TemporaryDirectory() as folder, emulator() if wanted else nullcontext():
        return 0 if demonstrate(args.env_file, Path(folder, "journal.txt")) else 1


if __name__ == "__main__":
    sys.exit(main())
