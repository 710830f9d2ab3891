"""A wire-level Azure Cosmos DB for NoSQL that the real `azure-cosmos` SDK talks to over HTTP on localhost."""

from .auth import EMULATOR_KEY
from .faults import Faults, Rule
from .identity import Identity
from .server import CosmosEmulator, RequestRecord
from .switches import Switches

__all__ = ["EMULATOR_KEY", "CosmosEmulator", "Faults", "Identity", "RequestRecord", "Rule", "Switches"]
