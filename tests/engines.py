"""The engines that the shared suites run on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from eventckpt import CosmosEventStore, EventCheckpointStorage, EventStore, SqliteEventStore

from .cosmos_emulator import CosmosEmulator

COSMOS_DATABASE = "eventckpt-tests"


class Engine(ABC):
    """One set of stored data. Each store opened on it stands for another process."""

    def __init__(self) -> None:
        self._stores: list[EventStore] = []

    def open(self) -> EventStore:
        """Another store object over the same data, closed with the engine."""
        store = self._open()
        self._stores.append(store)
        return store

    def storage(self, **options: Any) -> EventCheckpointStorage:
        """A storage over another store object."""
        return EventCheckpointStorage(self.open(), **options)

    @abstractmethod
    def settle(self) -> None:
        """A moment goes by: what one store has written is there for the others to see, whichever replica they ask. A
        store sees its own writes without it."""

    async def close(self) -> None:
        for store in self._stores:
            await store.close()

    @abstractmethod
    def _open(self) -> EventStore: ...


class CosmosEngine(Engine):
    """A container of its own on the emulator, or on the account that the environment names."""

    def __init__(self, endpoint: str, key: str, container_name: str) -> None:
        super().__init__()
        self.settings = {
            "endpoint": endpoint,
            "credential": key,
            "database_name": COSMOS_DATABASE,
            "container_name": container_name,
        }

    def settle(self) -> None:
        catch_up(self.settings["endpoint"])

    def _open(self) -> EventStore:
        return CosmosEventStore(**self.settings)


def where(emulator: CosmosEmulator) -> dict[str, Any]:
    """The settings of a store on an emulator of the test's own."""
    return {
        "endpoint": emulator.endpoint,
        "credential": emulator.key,
        "database_name": "db",
        "container_name": "events",
    }


def catch_up(endpoint: str) -> None:
    """A moment goes by on the emulator at `endpoint`, if there is one: all its replicas have heard of everything."""
    if (emulator := CosmosEmulator.at(endpoint)) is not None:
        emulator.catch_up()


class SqliteEngine(Engine):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def settle(self) -> None:
        """A file has no replicas."""

    def _open(self) -> EventStore:
        return SqliteEventStore(self.path)
