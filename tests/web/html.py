"""A page as whoever looks at it has it: its tables, links and forms, the texts of its parts, and the tree of elements
for what else is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, urlsplit

__all__ = ["Document", "Element", "Form", "Table", "query_of", "read"]

_VOID: Final = frozenset({"base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"})
_UNSEEN: Final = frozenset({"script", "style", "template"})
_FLOWING: Final = frozenset(
    {"a", "abbr", "b", "bdi", "bdo", "code", "em", "i", "kbd", "mark", "q", "s", "samp", "small", "span", "strong"}
    | {"sub", "sup", "time", "tspan", "u", "var", "wbr"}
)
"""Elements that are read in one with the text around them."""
_NAMELESS: Final = _FLOWING - {"a"} | {"caption", "del", "div", "ins", "label", "legend", "p", "pre"}
"""Elements that have no name, so that nobody is told of one, unless they have a role that does."""


@dataclass
class Element:
    """An element: its name, its attributes, and what is in it."""

    name: str
    attributes: dict[str, str]
    inside: list[Element | str] = field(default_factory=list["Element | str"])

    def all(self, *names: str, **attributes: str) -> list[Element]:
        """The elements in it, in the order of the page.

        Args:
            names: of the elements; none: of any name.
            attributes: what each must have, with `_` for `-`; `class_` is one of its classes.
        """
        return [each for each in self._below() if (not names or each.name in names) and each.has(**attributes)]

    def one(self, *names: str, **attributes: str) -> Element:
        """The only one of them."""
        found = self.all(*names, **attributes)
        assert len(found) == 1, f"{len(found)} of {names} {attributes}"
        return found[0]

    def has(self, **attributes: str) -> bool:
        """Whether it has these attributes."""
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        classes = self.attributes.get("class", "").split()
        return all(
            value in classes if name == "class" else self.attributes.get(name) == value
            for name, value in wanted.items()
        )

    @property
    def text(self) -> str:
        """What is read of it: runs of white space are one space."""
        return " ".join("".join(self._texts()).split())

    def _below(self) -> Iterator[Element]:
        for part in self.inside:
            if isinstance(part, Element):
                yield part
                yield from part._below()

    def _texts(self) -> Iterator[str]:
        for part in self.inside:
            if isinstance(part, str):
                yield part
            elif part.name not in _UNSEEN:
                around = "" if part.name in _FLOWING else " "
                yield around
                yield from part._texts()
                yield around


class Table(NamedTuple):
    """A table: its heads, and its rows as texts."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]

    def records(self) -> list[dict[str, str]]:
        """Each row by the heads."""
        return [dict(zip(self.heads, row, strict=True)) for row in self.rows]


class Form(NamedTuple):
    """A form: where it sends what, and its fields with what they hold; a field that may have several values, the one
    that is chosen."""

    action: str
    method: str
    fields: Mapping[str, str]


class Document(Element):
    """A whole page."""

    @property
    def title(self) -> str:
        """What its one heading of the first rank says."""
        return self.one("h1").text

    def by_id(self, name: str) -> Element:
        """The only element of this id."""
        return self.one(id=name)

    def table(self, name: str | None = None) -> Table:
        """The table of this caption or label; None: the only one."""
        tables = [each for each in self.all("table") if name is None or _label(each) == name]
        assert len(tables) == 1, f"{len(tables)} tables {name!r} among {[_label(each) for each in self.all('table')]}"
        rows = [[cell.text for cell in row.all("th", "td")] for row in tables[0].all("tr")]
        heads = tables[0].all("thead")
        first = len(heads[0].all("tr")) if heads else 0
        return Table(rows[0] if first else [], rows[first:])

    def links(self) -> dict[str, str]:
        """Where each link leads, by its text; of several with the same text, the first."""
        found: dict[str, str] = {}
        for link in self.all("a"):
            found.setdefault(link.text, link.attributes["href"])
        return found

    def form(self, action: str | None = None) -> Form:
        """The form that is sent to this path; None: the only one."""
        forms = [each for each in self.all("form") if action is None or _sent_to(each) == action]
        assert len(forms) == 1, (
            f"{len(forms)} forms to {action!r} among {[_sent_to(each) for each in self.all('form')]}"
        )
        found = forms[0]
        return Form(found.attributes.get("action", ""), found.attributes.get("method", "get"), dict(_fields(found)))


class _Reader(HTMLParser):
    """Refuses what a browser would have to mend, an element that is not closed, or closed without being open; and a
    name where nobody is told it."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.page = Document("", {})
        self.open: list[Element] = [self.page]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice: {names}"
        is_named = not {"aria-label", "aria-labelledby"}.isdisjoint(names)
        assert tag not in _NAMELESS or "role" in names or not is_named, f"<{tag}> can have no name: {attrs}"
        made = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].inside.append(made)
        if tag not in _VOID:
            self.open.append(made)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].name == tag, f"</{tag}> at {self.getpos()} ends a <{self.open[-1].name}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].inside.append(data)


def read(html: str) -> Document:
    """A page as it is told in HTML, every element of which must be closed."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == [reader.page], f"<{reader.open[-1].name}> is not closed"
    return reader.page


def query_of(address: str) -> dict[str, str]:
    """The query of an address."""
    return dict(
        parse_qsl(urlsplit(address).query, keep_blank_values=True, strict_parsing=bool(urlsplit(address).query))
    )


def _label(table: Element) -> str:
    captions = table.all("caption")
    return captions[0].text if captions else table.attributes.get("aria-label", "")


def _sent_to(form: Element) -> str:
    return urlsplit(form.attributes.get("action", "")).path


def _fields(form: Element) -> Iterator[tuple[str, str]]:
    for part in form.all("input", "select", "textarea"):
        name, kind = part.attributes.get("name"), part.attributes.get("type")
        if name is None or (kind in ("checkbox", "radio") and "checked" not in part.attributes):
            continue
        yield name, _held(part)


def _held(part: Element) -> str:
    if part.name == "textarea":
        return "".join(text for text in part.inside if isinstance(text, str)).removeprefix("\n")  # as browsers do
    if part.name == "select":
        options = part.all("option")
        chosen = [each for each in options if "selected" in each.attributes] or options[:1]
        return next((each.attributes.get("value", each.text) for each in chosen), "")
    return part.attributes.get("value", "")
