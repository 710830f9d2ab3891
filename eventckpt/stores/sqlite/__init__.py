"""The embedded engine: one SQLite file, any number of tasks, threads and processes.

A writer thread and a reader thread each own a connection, so the event loop never waits for the disk. Appends
that wait while the writer is busy are committed together, in one transaction with one flush: that is where the
throughput of parallel runs comes from. A whole transaction runs within one job of the writer thread, so no
cancellation can fall into its middle.

The threads are those of `concurrent.futures`: idle ones do not keep the process alive, and work already handed
over is finished before the interpreter exits. (aiosqlite's thread does neither for a connection left open.)
"""

from .event_store import SqliteEventStore
from .schema import APPLICATION_ID, MIGRATIONS

__all__ = ["APPLICATION_ID", "MIGRATIONS", "SqliteEventStore"]
