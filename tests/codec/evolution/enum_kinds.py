"""What happens to enums and flags."""

from __future__ import annotations

from typing import Final

from .kinds import Kind, Refused, data, enum

__all__ = ["ENUMS", "FLAGS"]

_RWX: Final = ("R = 1", "W = 2", "X = 4")

ENUMS: Final = [
    Kind("an enum that did not change", enum("A = 1"), enum("A = 1"), "M.A", "<M.A: 1>"),
    Kind("… gets a member, and auto() moves on", enum("A = auto()", "B = auto()"),
         enum("NEW = auto()", "A = auto()", "B = auto()"), "[M.A, M.B]", "[<M.A: 2>, <M.B: 3>]",
         bare="[<M.NEW: 1>, <M.A: 2>]"),
    Kind("… gets a member at the end", enum("A = 1"), enum("A = 1", "B = 2"), "M.A", "<M.A: 1>"),
    Kind("… has another value of a member", enum("LOW = 1"), enum("LOW = 'low'"), "M.LOW", "<M.LOW: 'low'>",
         bare=Refused("M")),
    Kind("… has a member renamed", enum("A = 1", "B = 2"), enum("ALPHA = 1", "B = 2"), "M.A", "<M.ALPHA: 1>",
         tells=True),
    Kind("… has a member renamed with another value", enum("A = 1"), enum("ALPHA = 'a'"), "M.A", Refused("A"),
         bare=Refused("M")),
    Kind("… loses a member", enum("A = 1", "B = 2"), enum("B = 2"), "M.A", Refused("A"), bare=Refused("M")),
    Kind("… loses one, whose value another has now", enum("A = 1", "B = 2"), enum("B = 1"), "M.A", Refused("A"),
         bare="<M.B: 1>"),
    Kind("… has a member renamed, and gets another", enum("A = 1"), enum("ALPHA = 1", "NEW = 2"), "M.A",
         Refused("A"), bare="<M.ALPHA: 1>"),
    Kind("… has two names swapped", enum("A = 1", "B = 2"), enum("B = 1", "A = 2"), "M.A", "<M.A: 2>",
         bare="<M.B: 1>"),
    Kind("… keeps an old name as an alias", enum("A = 1"), enum("ALPHA = 'a'", "A = 'a'"), "M.A", "<M.ALPHA: 'a'>",
         bare=Refused("M")),
    Kind("… has an alias, which becomes the member", enum("A = 1", "ALPHA = 1"), enum("ALPHA = 1", "A = 1"), "M.A",
         "<M.ALPHA: 1>"),
    Kind("… has values that are tuples, of which one changes", enum("A = (1, 'x')"), enum("A = (2, 'y')"), "M.A",
         "<M.A: (2, 'y')>", bare=Refused("M")),
    Kind("… has a member turned into a method", enum("A = 1", "B = 2"), enum("B = 2", "def A(self): return 1"), "M.A",
         Refused("A"), bare=Refused("M")),
    Kind("an enum of texts has another value", enum("A = 'a'", of="StrEnum"), enum("A = 'α'", of="StrEnum"), "M.A",
         "<M.A: 'α'>", bare=Refused("M")),
    Kind("an enum of texts has a member renamed", enum("A = 'a'", of="StrEnum"), enum("ALPHA = 'a'", of="StrEnum"),
         "M.A", "<M.ALPHA: 'a'>", tells=True),
    Kind("an enum of numbers gets a member, and auto() moves on", enum("A = auto()", of="IntEnum"),
         enum("NEW = auto()", "A = auto()", of="IntEnum"), "M.A", "<M.A: 2>", bare="<M.NEW: 1>"),
    Kind("an enum becomes one of numbers", enum("A = 1"), enum("A = 1", of="IntEnum"), "M.A", "<M.A: 1>"),
    Kind("an enum takes unknown values by itself", enum("A = 1", "B = 2"),
         enum("B = 2", "@classmethod\ndef _missing_(cls, value): return cls.B"), "M.A", Refused("A"), bare="<M.B: 2>"),
    Kind("an enum becomes a dataclass of its value", enum("A = 1"), data("value: int"), "M.A", Refused("M"),
         bare="M(value=1)"),
]  # fmt: skip

FLAGS: Final = [
    Kind("flags whose bits move", enum(*_RWX, of="Flag"), enum("NEW = 1", "R = 2", "W = 4", "X = 8", of="Flag"),
         "[M.R, M.R | M.X]", "[<M.R: 2>, <M.R|X: 10>]", bare="[<M.NEW: 1>, <M.NEW|W: 5>]"),
    Kind("… as numbers", enum(*_RWX, of="IntFlag"), enum("NEW = 1", "R = 2", "W = 4", "X = 8", of="IntFlag"),
         "[M.R, M.R | M.X]", "[<M.R: 2>, <M.R|X: 10>]", bare="[<M.NEW: 1>, <M.NEW|W: 5>]"),
    Kind("flags of which none are set", enum(*_RWX, of="Flag"), enum("R = 2", of="Flag"), "M(0)", "<M: 0>"),
    Kind("flags lose one that is set", enum(*_RWX, of="Flag"), enum("R = 1", "W = 2", of="Flag"), "M.R | M.X",
         Refused("X"), bare=Refused("M")),
    Kind("… that is not set", enum(*_RWX, of="Flag"), enum("R = 1", "X = 4", of="Flag"), "M.R | M.X", "<M.R|X: 5>"),
    Kind("… as numbers, which keep unknown bits", enum(*_RWX, of="IntFlag"), enum("R = 1", "W = 2", of="IntFlag"),
         "M.R | M.X", Refused("X"), bare="<M.R|4: 5>"),
    Kind("flags that keep unknown bits and have some", enum(*_RWX, of="Flag, boundary=FlagBoundary.KEEP"),
         enum("R = 2", "W = 1", "X = 4", of="Flag, boundary=FlagBoundary.KEEP"), "M.R | M(16)", "<M.R|16: 18>",
         bare="<M.W|16: 17>"),
    Kind("flags with a name for several, which has other bits now", enum(*_RWX, "RW = 3", of="Flag"),
         enum("W = 1", "R = 8", "X = 4", "RW = 9", of="Flag"), "M.RW | M.X", "<M.W|R|X: 13>", bare=Refused("M")),
    Kind("flags have one renamed", enum(*_RWX, of="Flag"), enum("READ = 1", "W = 2", "X = 4", of="Flag"), "M.R | M.W",
         "<M.READ|W: 3>", tells=True),
    Kind("flags become an enum", enum(*_RWX, of="Flag"), enum(*_RWX), "M.R", "<M.R: 1>"),
    Kind("… which has a member of the value that several had together", enum(*_RWX, of="Flag"), enum(*_RWX, "ALL = 7"),
         "M.R | M.W | M.X", Refused("M"), bare="<M.ALL: 7>"),
]  # fmt: skip
