"""Draws the curves of a report; `make bench` installs what draws."""

from __future__ import annotations

from pathlib import Path

from .measure import Plot

__all__ = ["draw"]

_OURS, _OTHERS = "#1f618d", ("#b03a2e", "#b9770e", "#1e8449", "#76448a", "#5d6d7e")


def draw(plot: Plot, folder: Path) -> Path:
    """The file that shows a plot; the same figures give the same bytes."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "eventckpt"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4))
    others = iter(_OTHERS)
    for line in plot.lines:
        ours = line.name.startswith("eventckpt")
        color, width = (_OURS, 2.2) if ours else (next(others, "#000000"), 1.2)
        axes.plot(line.x, line.y, label=line.name, color=color, linewidth=width, marker="." if len(line.x) < 9 else "")
    axes.set(xlabel=plot.x, ylabel=plot.y, yscale="log", xlim=(0, None))
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    file = folder / f"{plot.name}.svg"
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
    return file
