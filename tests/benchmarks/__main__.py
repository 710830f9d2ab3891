"""`make bench`: every figure that the project claims, measured side by side in one run."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

from . import audit, capacity, cosmos, deltas, main_job, projector, transfer
from .measure import report


def main() -> int:
    logging.disable(logging.WARNING)  # the framework's storages log every save
    met = [
        report("Codec, against the framework's", main_job.codec()),
        report("Codec, against attackers", main_job.attacks()),
        report("Saves on SQLite (WAL, synchronous=FULL)", asyncio.run(main_job.saves())),
        report("Reads on SQLite", asyncio.run(main_job.reads())),
    ]
    figures, curve = asyncio.run(deltas.conversation())
    met.append(report("Conversation: one message and one small value a superstep", figures))
    met.append(report("Workloads where deltas gain little", asyncio.run(deltas.plain_snapshots())))
    met.append(report("Cosmos DB: the saves of the conversation, in request units", asyncio.run(cosmos.charges())))
    met.append(report("Cosmos DB: one operation after 300 supersteps", asyncio.run(cosmos.operations())))
    met.append(report("Cosmos DB: saves until a run's logical partition is full", asyncio.run(capacity.capacity())))
    met.append(report("Cosmos DB: client time of a save of the conversation", asyncio.run(cosmos.client_time())))
    met.append(report("Audits", [*asyncio.run(audit.commands()), *asyncio.run(audit.diffs())]))
    met.append(report("Import", transfer.memory()))
    met.append(report("The projector", asyncio.run(projector.figures())))
    deltas.plot(curve, Path("docs", "stored-bytes.svg"))
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
