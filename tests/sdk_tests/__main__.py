"""`make sdk-tests`: Microsoft's own tests for azure-cosmos against the test server, and what became of them.

    python -m tests.sdk_tests                               # all files
    python -m tests.sdk_tests test_query_async.py           # these; the share and the list are judged for these alone

Ends with 1 if a test fails that is not in known_failures.txt, if one passes that is, if fewer pass than before, or if
less than 95 % of those pass that need nothing which the server refuses by name.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .download import tests
from .files import BEFORE, FILES
from .known import FLAKY, LIST, REFUSED, Reason, faults, listed_nowhere, read_list
from .running import FileRun, run_files

LEAST_SHARE = 0.95


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.sdk_tests", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", help="of those that are run by default")
    parser.add_argument("--jobs", type=int, default=2, help="files at a time")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds that one test may take")
    options = parser.parse_args()
    if unknown := set(options.files) - set(FILES):
        parser.error(f"not among the files that are run: {', '.join(sorted(unknown))}")
    known = read_list(LIST.read_text(encoding="utf-8"))
    runs: list[FileRun] = []
    wrong = listed_nowhere(known, FILES)
    print(f"{'file':60}{'passed':>8}{'failed':>8}{'skipped':>8}")
    for run in run_files(tests(), options.files or FILES, jobs=options.jobs, limit=options.limit):
        runs.append(run)
        print(f"{run.name:60}{''.join(f'{run.count(kind):8}' for kind in ('passed', 'failed', 'skipped'))}", flush=True)
        for fault in (found := faults(run, known)):
            print(f"    {fault}", flush=True)
        wrong += found
    wrong += summary(runs, known)
    return 1 if wrong else 0


def summary(runs: Sequence[FileRun], known: dict[str, Reason]) -> list[str]:
    """Prints the figures of all files; what is wrong with them, a sentence each."""
    passed, failed = (sum(run.count(kind) for run in runs) for kind in ("passed", "failed"))
    failures = [test for run in runs for test, outcome in run.tests.items() if outcome.outcome == "failed"]
    refused = sum(known[test].kind == REFUSED for test in failures if test in known)
    share = passed / (passed + failed - refused) if passed else 0.0
    skipped = sum(run.count("skipped") for run in runs)
    print(f"{f'{len(runs)} files':60}{passed:8}{failed:8}{skipped:8}")
    print(f"{refused} need what is refused by name. Of the others {share:.1%} pass (bound: {LEAST_SHARE:.0%}).")
    if flaky := sorted(test for test, reason in known.items() if reason.kind == FLAKY and test in failures):
        print(f"Failed this time, a matter of time: {', '.join(flaky)}")
    wrong = [] if share >= LEAST_SHARE else [f"Only {share:.1%} pass."]
    wrong += fewer_than_before(runs, known)
    for sentence in wrong:
        print(sentence)
    return wrong


def fewer_than_before(runs: Sequence[FileRun], known: dict[str, Reason]) -> list[str]:
    """The files of which fewer tests pass than once did. One that is a matter of time counts as passed."""
    now = {run.name: run.count("passed") + _unlucky(run, known) for run in runs}
    groups = {tuple(f"test_{name}.py" for name in names): count for names, count in BEFORE.items()}
    return [
        f"{', '.join(names)}: {sum(now[name] for name in names)} pass, where {count} did before."
        for names, count in groups.items()
        if all(name in now for name in names) and sum(now[name] for name in names) < count
    ]


def _unlucky(run: FileRun, known: dict[str, Reason]) -> int:
    return sum(
        outcome.outcome == "failed" and test in known and known[test].kind == FLAKY
        for test, outcome in run.tests.items()
    )


if __name__ == "__main__":
    sys.exit(main())
