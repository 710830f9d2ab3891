"""What recorded shapes take of the bytes: once for each checkpoint, and next to nothing of a delta."""

from __future__ import annotations

import pytest

from eventckpt import delta
from eventckpt.codec.root import Root, opened
from tests import checkpoint_types as app
from tests.benchmarks.main_job import conversation
from tests.fidelity import checkpoint

from ..values import CODEC


def sizes(raw: bytes) -> tuple[int, int]:
    """Bytes with the shapes, and without."""
    return len(raw), len(Root(opened(raw).fields, None).packed())


@pytest.mark.parametrize("messages", [20, 300])
def test_a_conversation_takes_no_more_than_one_percent_for_them(messages: int) -> None:
    with_shapes, without = sizes(CODEC.encode(conversation(messages)))
    assert with_shapes <= 1.01 * without


def test_they_stand_once_however_many_values_there_are() -> None:
    one, many = (sizes(CODEC.encode(checkpoint([app.Point(n, n) for n in range(count)])))
                 for count in (1, 1000))  # fmt: skip
    assert one[0] - one[1] == many[0] - many[1] > 0


def test_a_delta_does_not_repeat_them() -> None:
    values = [[app.Point(n, n), app.Colour.RED] for n in range(200)]
    before, after = (CODEC.encode(checkpoint(each)) for each in (values, [*values, [app.Point(0, 0), app.Colour.RED]]))

    def stored(*raws: bytes) -> int:
        first, second = raws
        return len(delta.encode(second, delta.Base(1, first, 10**9)).data)

    bare = stored(*(Root(opened(raw).fields, None).packed() for raw in (before, after)))
    assert stored(before, after) - bare <= 16
