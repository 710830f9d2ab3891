"""Conversations on both engines."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from ..engines import Engine
from .histories import Histories


@pytest.fixture
async def histories(engine: Engine) -> AsyncGenerator[Histories, None]:
    made = Histories(engine)
    yield made
    await made.close()
