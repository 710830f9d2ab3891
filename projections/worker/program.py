"""The program, where all that it needs is installed: else one sentence says what is not."""

from __future__ import annotations

from eventckpt.exit_codes import without_extra

try:
    from .app import app
except ModuleNotFoundError as _gone:
    raise without_extra("eventckpt-projector", "projector", ("prometheus_client", "rich", "typer"), _gone) from _gone

__all__ = ["app"]
