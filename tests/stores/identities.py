"""An account that identities alone use: its containers were made beforehand, and each program has its own principal."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from eventckpt import CosmosCheckpointStorage, CosmosEventStore
from eventckpt.stores.cosmos import INDEXING_POLICY
from eventckpt.stores.cosmos.documents import LEASE_INDEXING
from eventckpt.stores.cosmos.runs import PROJECTION_INDEXING

from ..cosmos_emulator import CosmosEmulator, Identity
from ..cosmos_emulator.roles import Role

DATABASE: Final = "agents"
EVENTS: Final = "checkpoints"
PROJECTIONS: Final = f"{EVENTS}-projections"
LEASES: Final = f"{EVENTS}-leases"
ROLES: Final = Path(__file__).parents[2] / "docs" / "roles"

_LAYOUT: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    EVENTS: ("/stream", INDEXING_POLICY),
    PROJECTIONS: ("/stream", PROJECTION_INDEXING),
    LEASES: ("/id", LEASE_INDEXING),
}


def role(name: str) -> Role:
    """A role of docs/roles, as `az cosmosdb sql role definition create` is given it."""
    return Role.from_definition(json.loads((ROLES / f"{name}.json").read_text(encoding="utf-8")))


class IdentityAccount:
    """The account and whoever uses it. Stores and storages are closed with it."""

    def __init__(self, emulator: CosmosEmulator, identity: Identity, opened: AsyncExitStack) -> None:
        self.emulator = emulator
        self.identity = identity
        self._opened = opened
        self._numbers = itertools.count(1)

    def principal(self, roles: dict[str, Role]) -> str:
        """Somebody with a role on each of these containers, and no other right."""
        name = f"principal-{next(self._numbers)}"
        for container, each in roles.items():
            self.identity.assign(name, each, f"/dbs/{DATABASE}/colls/{container}")
        return name

    def settings(
        self, principal: str, *, sync: bool = False, container: str = EVENTS, **options: Any
    ) -> dict[str, Any]:
        """What a store of this principal is made with; `options` are the credential's."""
        make = self.identity.credential if sync else self.identity.async_credential
        return {
            "endpoint": self.emulator.endpoint,
            "credential": make(principal, **options),
            "database_name": DATABASE,
            "container_name": container,
        }

    async def store(self, principal: str, **options: Any) -> CosmosEventStore:
        return await self._opened.enter_async_context(CosmosEventStore(**self.settings(principal, **options)))

    async def storage(self, principal: str, *, latest: Any = "log", **options: Any) -> CosmosCheckpointStorage:
        made = CosmosCheckpointStorage(**self.settings(principal, **options), latest=latest)
        return await self._opened.enter_async_context(made)


@asynccontextmanager
async def identity_account(*containers: str, **options: Any) -> AsyncGenerator[IdentityAccount, None]:
    """An account with these containers; without, with all three. `options` are the identity's; keys are off."""
    identity = Identity(**{"keys": False, **options})
    async with CosmosEmulator(identity=identity) as emulator:
        for name in containers or _LAYOUT:
            key, policy = _LAYOUT[name]
            emulator.provision(DATABASE, name, key, indexingPolicy=policy)
        with emulator.trusted():
            async with AsyncExitStack() as opened:
                yield IdentityAccount(emulator, identity, opened)
