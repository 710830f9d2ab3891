"""Whether a live account is tested. Theirs sets an attribute on the function."""

from __future__ import annotations


def is_live() -> bool:
    return True
