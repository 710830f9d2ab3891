"""The test server's own tests are left out of `make test-fast`: they are about how the service answers. What the engine
needs of that fails in the engine's tests, too."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
