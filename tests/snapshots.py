"""All that is stored somewhere, to see whether something has changed it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from azure.cosmos.aio import CosmosClient

__all__ = ["in_account", "in_folder"]


def in_folder(folder: Path) -> dict[str, str]:
    """Every file and folder below this one: its mode, and a digest of what is in it."""
    return {
        path.relative_to(folder).as_posix(): f"{path.lstat().st_mode:o} {_digest(path)}"
        for path in sorted(folder.rglob("*"))
    }


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"


async def in_account(endpoint: str, key: str) -> dict[str, list[str]]:
    """Every container of an account, `database/container`, with its items; a database without one is there as well."""
    found: dict[str, list[str]] = {}
    async with CosmosClient(endpoint, key) as client:
        for name in [str(each["id"]) async for each in client.list_databases()]:
            database = client.get_database_client(name)
            found[f"{name}/"] = []
            for each in [str(each["id"]) async for each in database.list_containers()]:
                items = database.get_container_client(each).read_all_items()
                found[f"{name}/{each}"] = sorted([json.dumps(item, sort_keys=True) async for item in items])
    return found
