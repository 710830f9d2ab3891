"""What a checkpoint holds, as JSON and as lines of text: nothing of it is made alive, and nothing of it is obeyed."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator
from itertools import islice
from types import NoneType
from typing import Any, Final, TypeVar, cast

from ..codec.tree import Form, Opaque, Ref, Tree, Value, children, has_parts, parts_of
from ..text import count_text, safe, shortened

__all__ = [
    "PARTS",
    "WIDTH",
    "count_of",
    "head_text",
    "label_text",
    "leaf_text",
    "more_text",
    "one_line",
    "plain_tree",
    "shown_of",
    "tree_lines",
]

WIDTH: Final = 100
"""Characters of a value that is shown shortened."""
PARTS: Final = 20
"""Parts of a list that is shown shortened."""
_JSON: Final = frozenset({NoneType, bool, int, str})  # types that stand for themselves


def plain_tree(tree: Tree) -> Any:
    """A tree as JSON: what JSON has no word for is an object with the key "$"."""
    if type(tree) in _JSON:
        return tree
    if isinstance(tree, list):
        return tree if _JSON.issuperset(map(type, tree)) else list(map(plain_tree, tree))
    if isinstance(tree, dict):
        keys = [f"[{key!r}]" for key in tree] if "$" in tree else tree
        plain: dict[str, Any] = {"$": "dict"} if "$" in tree else {}
        plain.update(zip(keys, map(plain_tree, tree.values()), strict=True))
        return plain
    if isinstance(tree, Form):
        plain = {"$": tree.name}
        for step, part in tree.parts:
            plain[step] = plain_tree(part)
        return plain
    if isinstance(tree, Value):
        return {"$": tree.name, "text": tree.text}
    if isinstance(tree, Opaque):
        return {"$": tree.name, "not_shown": True, "size": tree.size, "sha256": tree.digest}
    if isinstance(tree, Ref):
        return {"$": "ref", "path": tree.path}
    if isinstance(tree, bytes):
        return {"$": "bytes", "base64": base64.b64encode(tree).decode()}
    return tree if math.isfinite(cast(float, tree)) else {"$": "float", "text": repr(tree)}


def tree_lines(tree: Tree, name: str = "", *, depth: int = 0, full: bool = False) -> Iterator[str]:
    """A tree as indented lines; long values and long lists are shortened unless `full`."""
    open_parts: list[Iterator[tuple[str, Tree] | str]] = [iter(((name, tree),))]
    indents = ["  " * depth]
    while open_parts:
        part = next(open_parts[-1], None)
        if part is None:
            open_parts.pop()
            indents.pop()
        elif isinstance(part, str):
            yield indents[-1] + part
        else:
            step, inner = part
            label = f"{indents[-1]}{label_text(step, full=full)}"
            text = one_line(inner, full=full)
            if text is not None:
                yield label + text
            else:
                yield f"{label}{head_text(inner)}".rstrip()
                open_parts.append(_shown(inner, full=full))
                indents.append(indents[-1] + "  ")


def one_line(tree: Tree, *, full: bool = False) -> str | None:
    """A value that is shown on one line; None: it is shown as a head, and its parts below it."""
    return _inline(tree) if has_parts(tree) else leaf_text(tree, full=full)


def leaf_text(tree: Tree, *, full: bool = False) -> str:
    """One value on one line, safe to print; a container as what it is and how many parts it has."""
    if has_parts(tree):
        inline = _inline(tree)
        return inline if inline is not None else head_text(tree) or f"{count_of(tree)} keys"
    if isinstance(tree, Opaque):
        return f"{safe(tree.name)}, {tree.size:,} bytes, not shown (--allow {safe(tree.name)})"
    if isinstance(tree, Value):
        return f"{_cut(safe(_start(tree.text, full=full)), full=full)} ({safe(tree.name)})"
    if isinstance(tree, Ref):
        return f"the same as {safe(tree.path)}"
    if isinstance(tree, str):
        start = _start(tree, full=full)
        end = '"' if len(start) == len(tree) else ""
        return _cut(f'"{safe(start)}{end}', full=full, size=count_text(len(tree), "character"))
    if isinstance(tree, bytes):
        return _cut(safe(repr(_start(tree, full=full))), full=full, size=count_text(len(tree), "byte"))
    return str(tree)


_Text = TypeVar("_Text", str, bytes)


def _start(text: _Text, *, full: bool) -> _Text:
    """As much of a text as is looked at to show it: the rest may be very long."""
    return text if full else text[: WIDTH + 1]


def label_text(step: str, *, full: bool = False) -> str:
    """What a part is called, in front of it: by the step that leads to it."""
    step = _start(step.removeprefix("."), full=full)
    return f"{_cut(safe(step), full=full)}: " if step else ""


def _cut(text: str, *, full: bool, size: str = "") -> str:
    if full or len(text) <= WIDTH:
        return text
    return f"{shortened(text, WIDTH)} ({size})" if size else shortened(text, WIDTH)


def count_of(tree: Tree) -> int:
    """How many parts a value with parts has."""
    return len(tree.parts) if isinstance(tree, Form) else len(cast("list[Tree]", tree))


def _shown(tree: Tree, *, full: bool) -> Iterator[tuple[str, Tree] | str]:
    """The parts that are shown, and then how many are not."""
    parts, count = parts_of(tree) or (), count_of(tree)
    shown = count if full else shown_of(tree)
    yield from islice(parts, shown)
    if shown < count:
        yield more_text(count - shown)


def shown_of(tree: Tree) -> int:
    """How many parts of a value with parts are shown where it is shown shortened."""
    count = count_of(tree)
    return count if isinstance(tree, dict) or count <= PARTS + 1 else PARTS


def more_text(left: int) -> str:
    """What stands for so many parts that are left out."""
    return f"… {left:,} more"


def _inline(tree: Tree) -> str | None:
    """A short list or form of plain values on one line; None where it would be long."""
    count = count_of(tree)
    if not count and not isinstance(tree, Form):
        return "{}" if isinstance(tree, dict) else "[]"
    if isinstance(tree, dict) or count > 8:
        return None
    parts = children(tree) or []
    if any(has_parts(part) for _, part in parts):
        return None
    if isinstance(tree, Form) and ":" in tree.name:
        texts = [f"{step.removeprefix('.')}={leaf_text(part)}" for step, part in parts]
        text = f"{safe(tree.name)}({', '.join(safe(each) for each in texts)})"
    elif isinstance(tree, Form) and tree.name == "dict":
        text = f"{{{', '.join(f'{safe(step[1:-1])}: {leaf_text(part)}' for step, part in parts)}}}"
    else:
        name = tree.name if isinstance(tree, Form) else ""
        text = f"{name}{'(' if name else '['}{', '.join(leaf_text(part) for _, part in parts)}{')' if name else ']'}"
    return text if len(text) <= WIDTH else None


def head_text(tree: Tree) -> str:
    """What stands above the parts of a value that is not shown on one line; empty of a plain map."""
    if isinstance(tree, Form):
        return f"{safe(tree.name)}" if ":" in tree.name else f"{tree.name}, {count_text(count_of(tree), 'item')}"
    return count_text(count_of(tree), "item") if isinstance(tree, list) else ""
