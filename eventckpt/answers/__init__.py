"""Answering what a run asks: one function looks what became of the request, checks the response against the type that
the request asks for, claims the run and resumes it, so that an answer is acted on once.
"""

from .answering import answer, answer_from_json

__all__ = ["answer", "answer_from_json"]
