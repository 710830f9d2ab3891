"""Left out where the packages of the hosts are not installed: `make test-hosts` has them."""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("agent_framework_foundry_hosting") is None:
    collect_ignore_glob = ["test_*.py"]
