"""The identity of the tests."""

from __future__ import annotations

import os


def get_credential(*, is_async: bool = False) -> str:
    """The account key, where theirs is a token credential: the server is reached without TLS."""
    del is_async
    return os.environ["ACCOUNT_KEY"]
