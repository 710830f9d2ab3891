"""The story of docs/audit.md, played by its sample; and that page's tables, which are those of the code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from eventckpt.cli import app

ROOT = Path(__file__).parent.parent.parent
SAMPLE = ROOT / "samples" / "audit_and_replay.py"
PAGE = ROOT / "docs" / "audit.md"


def played(*options: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SAMPLE, *options], capture_output=True, text=True, encoding="utf-8", timeout=120, check=False
    )


def test_the_sample_finds_explains_repairs_and_proves() -> None:
    ended = played()
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout + ended.stderr
    assert re.search(r"order-1042 +done +4 +-100\.0", ended.stdout)
    assert "seq 3, superstep 2: 200.0 → -100.0" in ended.stdout
    assert "order-1042-repaired begins at seq 2 of order-1042\n  it costs 170.0 euros" in ended.stdout
    assert "seq 3: changed: its digest is not that of what it holds" in ended.stdout
    assert re.findall(r"^  (yes|NO ) ", ended.stdout, flags=re.MULTILINE) == ["yes"] * 5


def test_the_sample_does_not_touch_a_store_that_exists_already(tmp_path: Path) -> None:
    path = tmp_path / "yours.db"
    path.write_bytes(b"yours")
    assert played("--store", path).returncode == 2
    assert path.read_bytes() == b"yours"


def test_the_page_lists_every_command() -> None:
    text = PAGE.read_text(encoding="utf-8")
    table = text[text.index("## Commands") : text.index("### Types that")]
    assert set(re.findall(r"^\| `([a-z-]+)` \|", table, flags=re.MULTILINE)) == {
        command.name for command in app.registered_commands
    }
