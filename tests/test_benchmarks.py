"""The benchmarks run, and docs/benchmarks.md says what they are held to. Nothing is timed here."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from .benchmarks import contenders, peers, turns
from .benchmarks.before import extracted
from .benchmarks.measure import Figure, Line, Plot, Sample, at_least, at_most, compared
from .benchmarks.page import INTRODUCTION, rows, sections_of, text_of, written
from .benchmarks.peers import has_langgraph
from .benchmarks.section import Section, with_before
from .benchmarks.sections import SECTIONS

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
PAGES = [ROOT / "README.md", *(page for page in sorted(ROOT.glob("docs/*.md")) if page != PAGE)]

# A section that was never measured in full is not on the page yet.
MEASURED = [section for section in SECTIONS if section.title in sections_of(PAGE.read_text(encoding="utf-8"))]

each_measured_section = pytest.mark.parametrize("section", MEASURED, ids=lambda section: section.title)
each_section = pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title)


def on_the_page() -> dict[str, str]:
    return sections_of(PAGE.read_text(encoding="utf-8"))


# What is measured


@pytest.mark.slow
@each_section
def test_a_section_measures_something_and_the_page_has_the_bounds_of_its_code(section: Section) -> None:
    figures, plot = section.measured(**section.small)
    assert figures
    if section in MEASURED:
        assert [row[4] for row in rows(on_the_page()[section.title])] == [figure.bound for figure in figures]
        assert plot is None or (ROOT / "docs" / f"{plot.name}.svg").is_file()


@pytest.mark.parametrize("job", contenders.JOBS)
async def test_contenders_are_processes_that_each_take_a_turn_in_every_round(job: str) -> None:
    more = (2, 2) if job == "parallel" else ()
    names = ["eventckpt", "File", "InMemory"]
    found = await turns.take_turns(3, [turns.Contender(name, job, (name, "messages", 2, *more)) for name in names])
    assert {name: len(taken) for name, taken in found.items()} == dict.fromkeys(names, 3)


async def test_a_contender_that_fails_ends_the_measurement() -> None:
    contenders = [turns.Contender("File", "save", ("File", "messages", 2)), turns.Contender("x", "save", ("x", "y", 1))]
    with pytest.raises(ExceptionGroup) as failed:
        await turns.take_turns(1, contenders)
    assert "x ended while it did save" in str(failed.value.exceptions[0])


def test_every_peer_is_one_that_somebody_is_compared_with() -> None:
    code = (ROOT / "tests" / "benchmarks" / "saves.py").read_text(encoding="utf-8")
    assert [name for name in peers.PEERS if f'"{name}"' not in code] == []


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".git").exists() or shutil.which("git") is None, reason="needs the repository")
def test_an_earlier_version_is_measured_by_the_code_of_now() -> None:
    if subprocess.run(["git", "rev-parse", "--verify", "HEAD"], cwd=ROOT, capture_output=True).returncode:
        pytest.skip("needs a commit")
    [small_saves] = [section for section in SECTIONS if section.title == "Small saves"]
    [reads] = [section for section in SECTIONS if section.title == "SQLite: reads"]
    with extracted("HEAD") as folder:
        assert not (folder / "tests").samefile(folder)
        of_turns = small_saves.measured(**small_saves.small).figures
        of_sections = with_before(reads, reads.measured(**reads.small).figures, folder, **reads.small)
    measured = [figure for figure in of_turns if not math.isnan(figure.ratio)]  # a peer may not be installed
    assert measured
    assert all(figure.before.endswith("×") for figure in measured)
    assert [figure.before for figure in of_sections if "ms" not in figure.before] == []


# How it is told


def test_a_figure_says_the_medians_where_the_middle_half_lies_and_whether_its_bound_is_met() -> None:
    ours, theirs = (Sample(values, lambda number: f"{number:g} ms") for values in ([1, 2, 3, 4, 100], [8, 8, 8, 8]))
    figure = compared("a save", ours, theirs, "somebody", at_most(0.5))
    assert figure[:2] == ("a save", "3 ms (1.5–52)")
    assert figure.theirs == "8 ms (8–8) somebody"
    assert (figure.ratio, figure.bound, figure.met) == (0.375, "≤ 0.5 ×", True)
    assert not compared("a save", ours, theirs, "somebody", at_least(3)).met


def test_a_run_of_some_sections_leaves_the_others_on_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    sections = [
        Section(word, word.title(), list, "About it.", why={"it": "because"}) for word in ("one", "two", "three")
    ]

    def texts(*words: str, ours: str) -> dict[str, str]:
        figures = [Figure("it", ours, "b", 1.0, "≤ 2 ×", met=False)]
        return {each.title: text_of(each, figures, None) for each in sections if each.word in words}

    written(page, sections, texts("three", "one", ours="first"))
    written(page, sections, texts("two", "three", ours="second"))
    found = page.read_text(encoding="utf-8")
    assert found.startswith(INTRODUCTION)
    assert {title: rows(text)[0][1] for title, text in sections_of(found).items()} == {
        "One": "first",
        "Two": "second",
        "Three": "second",
    }
    assert list(sections_of(found)) == ["One", "Two", "Three"]
    assert "* it: because" in found


@pytest.mark.skipif(not has_langgraph(), reason="`make bench` installs what draws")
def test_the_same_figures_give_the_same_plot(tmp_path: Path) -> None:
    from .benchmarks.plots import draw

    plot = Plot("p", "x", "y", [Line("eventckpt", [1, 2], [3, 4]), Line("other", [1, 2], [5, 6])])
    assert draw(plot, tmp_path).read_bytes() == draw(plot, tmp_path).read_bytes()


# What is told


def test_the_page_has_only_sections_that_are_measured_in_their_order() -> None:
    assert list(on_the_page()) == [section.title for section in MEASURED]


def test_the_page_begins_as_its_code_says() -> None:
    assert PAGE.read_text(encoding="utf-8").startswith(INTRODUCTION)


@each_measured_section
def test_the_page_says_of_a_section_what_its_code_says(section: Section) -> None:
    text = on_the_page()[section.title]
    assert section.about in text
    told = {row[0] for row in rows(text)}
    assert [why for what, why in section.why.items() if what in told and f"* {what}: {why}" not in text] == []
    assert [what for what in section.why if what not in told] == [], "a reason for what is not measured"


@each_measured_section
def test_what_misses_its_bound_has_its_reason_on_the_page(section: Section) -> None:
    missed = {row[0] for row in rows(on_the_page()[section.title]) if "MISSED" in row}
    assert missed <= set(section.why)


def test_a_figure_that_another_page_quotes_is_on_the_page_that_it_links_to() -> None:
    quotes = [(page.name, *quote) for page in PAGES for quote in _quotes(page.read_text(encoding="utf-8"))]
    assert quotes
    for name, quoted, anchor in quotes:
        [section] = [text for title, text in on_the_page().items() if _anchor(title) == anchor]
        assert any(_same(quoted, cell) for row in rows(section) for cell in row), f"{name} says {quoted!r}"


def _quotes(text: str) -> list[tuple[str, str]]:
    """The texts with a digit that link to a section of the page, with its anchor."""
    return re.findall(r"\[([^\]]*\d[^\]]*)\]\((?:docs/)?benchmarks\.md#([\w-]+)\)", text)


def _same(quoted: str, cell: str) -> bool:
    """Whether a cell begins with the quoted number; a ratio is quoted without its decimals."""
    number = quoted.removesuffix(" ×")
    if cell == number or cell.startswith((f"{number} ", f"{quoted} ")):
        return True
    return quoted.endswith(" ×") and re.fullmatch(r"[\d.]+", cell) is not None and int(float(cell)) == float(number)


def _anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
