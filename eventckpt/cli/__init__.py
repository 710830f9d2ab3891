"""`eventckpt …`: the audit at the command line. docs/audit.md is its manual.

Needs the `cli` extra; nothing else in eventckpt imports this package.
"""

from .program import app, main

__all__ = ["app", "main"]
