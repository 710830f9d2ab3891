"""A wire-level Azure Cosmos DB for NoSQL that the real `azure-cosmos` SDK talks to over HTTP on localhost."""

from .auth import EMULATOR_KEY
from .faults import Faults, Rule
from .identity import Identity
from .server import CosmosEmulator, RequestRecord
from .statuses import NAMED_FAULTS, NamedFault
from .switches import Switches

__all__ = [
    "EMULATOR_KEY",
    "NAMED_FAULTS",
    "CosmosEmulator",
    "Faults",
    "Identity",
    "NamedFault",
    "RequestRecord",
    "Rule",
    "Switches",
]
