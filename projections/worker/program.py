"""The program, where all that it needs is installed: else one sentence says what is not."""

from __future__ import annotations

import sys

try:
    from .app import app
except ModuleNotFoundError as _gone:
    if _gone.name is None or _gone.name.partition(".")[0] not in ("prometheus_client", "rich", "typer"):
        raise
    sys.stderr.write(
        f"eventckpt-projector: it needs the projector extra ({_gone}): pip install '.[projector]' in a checkout.\n"
    )
    raise SystemExit(2) from _gone

__all__ = ["app"]
