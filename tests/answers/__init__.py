"""Answers to what runs ask: from code, for good, and once."""
