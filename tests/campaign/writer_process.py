"""Writers in a process of their own, which the campaign kills when it likes.

Each line on the standard input is one turn for each of them, which a line on the standard output says is done; the end
of the input is the end.
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from .book import Journal
from .stores import open_store
from .writers import Writer


async def work(place: str, journal: Path, name: str) -> None:
    notes = Journal(journal)
    dice = random.Random(name)
    store = open_store(place, name, notes.take)
    async with store:
        writers = [
            Writer(store, f"{name}-chat", random.Random(dice.random())),
            Writer(store, f"{name}-line", random.Random(dice.random()), bound=False),
        ]
        print("ready", flush=True)
        while await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline):
            async with asyncio.TaskGroup() as turns:
                for writer in writers:
                    turns.create_task(writer.turn())
            print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
