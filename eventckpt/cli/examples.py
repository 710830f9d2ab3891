"""An example of each command, for its help."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["EXAMPLES"]

EXAMPLES: Final[Mapping[str, str]] = {
    "annotate": "annotate order-1042 --outcome failed --tag customer=c-17",
    "answer": "answer order-1042 q1 --json true --app shop:build",
    "at": "at order-1042 --time 2h",
    "backup": "backup copy.db",
    "changes": "changes order-1042 --path state.total",
    "diff": "diff order-1042",
    "doctor": "doctor --allow shop:Order",
    "export": "export order-1042 -o order.jsonl",
    "fork": "fork order-1042@2 --as order-1042-repaired",
    "history": "history order-1042 --last 10",
    "import": "import order.jsonl",
    "import-from": "import-from file checkpoints/",
    "inbox": "inbox --older-than 7d",
    "info": "info order-1042",
    "lineage": "lineage order-1042",
    "migrate": "migrate order-1042 --with shop:rename",
    "preflight": "preflight --app shop:build --allow shop:Order",
    "prune": "prune --all --keep 5 --older-than 30d",
    "replay": "replay order-1042",
    "restore": "restore copy.db",
    "runs": "runs --status waiting --since 2h",
    "schema": "schema runs",
    "sessions": "sessions --source chat",
    "show": "show order-1042@3",
    "tail": "tail --workflow pricing",
    "verify": "verify --all",
}
"""By the name of the command, the words behind `eventckpt`."""
