"""What holds on both engines holds on a third one, unchanged: storages, placement, audit, processors and the projector.

The tests are those of their own files; here they find an engine in memory in place of the two.
"""
# ruff: noqa: F403 - each test of a file, by whatever name

from __future__ import annotations

from collections.abc import AsyncGenerator
from inspect import signature

import pytest

from ..audit.test_diff import *
from ..engines import Engine
from ..projections.conftest import rig as rig
from ..projections.test_agreement import *
from ..projections.test_latest import *
from ..storage.test_placement import *
from ..storage.test_storage import *
from .engine import MemoryEngine


@pytest.fixture
async def engine() -> AsyncGenerator[Engine, None]:
    made = MemoryEngine()
    yield made
    await made.close()


for name, test in list(globals().items()):
    if name.startswith("test_") and (
        {"cosmos_rig", "sqlite_rig"} & set(signature(test).parameters)  # it is about one of the two
        or hasattr(test, "hypothesis")  # it makes engines of its own
    ):
        del globals()[name]
