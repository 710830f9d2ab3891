"""Whether every public name of a package has a type that each type checker reads alike: all of them, or the names.

    python -m tests.typed eventckpt projections

`pyright --verifytypes` asks for a package where it would be installed, and an editable installation is none that it
follows. So it is told where this checkout is, and where what it needs is installed, by `PYTHONPATH`. Types of other
packages are theirs to complete. What stands on one that is not installed has none here: see `tests.host_packages`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
ADAPTERS = {
    "eventckpt.hosts.ag_ui": "agent_framework_ag_ui",
    "eventckpt.hosts.foundry": "agent_framework_foundry_hosting",
}
PYRIGHT = Path(sys.executable).with_name("pyright")


def main(packages: list[str]) -> int:
    """Print what is missing in each package; 1 if anything is."""
    incomplete = [package for package in packages if not is_complete(package)]
    return int(bool(incomplete))


def is_complete(package: str) -> bool:
    """Whether the types of a package are complete. One that is not found has no name at all, and is not."""
    found = [each for each in report(package)["symbols"] if each["isExported"] and not stands_on_others(each["name"])]
    unknown = [each["name"] for each in found if not each["isTypeKnown"]]
    known = len(found) - len(unknown)
    print(f"{package}: {known / (len(found) or 1):.1%} of {len(found)} public names have a known type")
    for name in unknown:
        print(f"  {name}")
    return bool(found) and not unknown


def stands_on_others(name: str) -> bool:
    """Whether a name is of an adapter to a host whose package is not installed."""
    return any(name.startswith(f"{adapter}.") and find_spec(host) is None for adapter, host in ADAPTERS.items())


def report(package: str) -> dict[str, Any]:
    """What pyright says of a package."""
    run = subprocess.run(
        [PYRIGHT, "--outputjson", "--ignoreexternal", "--verifytypes", package],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), sysconfig.get_path("purelib")])},
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        completeness: dict[str, Any] = json.loads(run.stdout)["typeCompleteness"]
    except (ValueError, KeyError):
        sys.exit(f"pyright cannot verify {package}: {run.stdout}{run.stderr}")
    return completeness


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
