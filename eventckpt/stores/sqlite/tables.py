"""The two logs of a file, that of runs and that of sessions: the same tables, under names of their own.

Every statement asks a `Log`, and names the tables as it does; so there is each of them once, for both.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

__all__ = ["LOGS", "RUNS", "SESSIONS", "Log", "Tables"]


class Tables(NamedTuple):
    """What the tables of a log are called."""

    events: str
    runs: str
    projections: str
    leases: str


RUNS: Final = Tables("events", "runs", "projections", "leases")
SESSIONS: Final = Tables("session_events", "session_runs", "session_projections", "session_leases")
LOGS: Final = (RUNS, SESSIONS)


class Log:
    """One log, as a connection sees it."""

    __slots__ = ("connection", "events", "leases", "projections", "runs", "tables")
    connection: sqlite3.Connection
    events: str
    runs: str
    projections: str
    leases: str
    tables: Tables

    def __init__(self, connection: sqlite3.Connection, tables: Tables) -> None:
        self.connection, self.tables = connection, tables
        self.events, self.runs, self.projections, self.leases = tables

    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        """See `sqlite3.Connection.execute`."""
        return self.connection.execute(sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Any]) -> sqlite3.Cursor:
        """See `sqlite3.Connection.executemany`."""
        return self.connection.executemany(sql, parameters)
