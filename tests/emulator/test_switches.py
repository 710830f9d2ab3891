"""The emulator's switches and its command line: what means nothing is refused in one sentence."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cosmos_emulator import CosmosEmulator, Switches
from tests.cosmos_emulator.consistency import LEVELS
from tests.cosmos_emulator.switches import ENVIRONMENT
from tests.emulator.cosmos_wire import send

ROOT = Path(__file__).parent.parent.parent
ITEM = "dbs/shop/colls/one/docs/a"
KEY = {"x-ms-documentdb-partitionkey": '["p"]'}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("consistency", "session"),
        ("consistency", ""),
        ("lag", 1.1),
        ("lag", -0.1),
        ("lag", float("nan")),
        ("empty_pages", 2.0),
        ("lag_seconds", -1.0),
        ("lag_seconds", float("inf")),
        ("late", float("nan")),
        ("regions", 0),
        ("throttling", -1),
        ("logical_partition_bytes", -1),
    ],
)
def test_a_value_that_means_nothing_is_refused_by_the_name_of_its_switch(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^The switch {name} is .*, not ") as error:
        Switches(**{name: value})
    assert str(error.value).endswith(f"not {value!r}.")


def test_what_costs_nothing_cannot_be_throttled() -> None:
    with pytest.raises(ValueError, match="throttling and charges=off exclude each other"):
        Switches(throttling=10, charges=False)
    assert Switches(charges=False).throttling == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lag=much", "The switch lag is a number, not 'much'"),
        ("regions=1.5", "The switch regions is a number, not '1.5'"),
        ("seed=1-2", "The switch seed is a number, not '1-2'"),
        ("throttling=-5", "The switch throttling is a number, 0 or more, not -5"),
        ("sessions=no-way", "The switch sessions is on or off, not 'no-way'"),
        ("lags=1", "There is no switch 'lags'"),
        ("throttling=5,charges=off", "exclude each other"),
    ],
)
def test_a_text_that_means_nothing_is_refused_by_the_name_of_its_switch(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Switches.of(text)


@pytest.mark.parametrize(
    "switches",
    [
        Switches(),
        Switches.off(),
        Switches(lag=1.0, lag_seconds=1e-7, clients_wait=True, throttling=5, seed=-3, consistency="Strong"),
    ],
)
def test_switches_come_back_from_their_text_which_names_the_seed(switches: Switches) -> None:
    assert Switches.of(switches.text()) == switches
    assert f"seed={switches.seed}" in switches.text().split(",")


def test_a_test_that_fails_prints_the_switches_that_it_failed_under(tmp_path: Path) -> None:
    fails = tmp_path / "test_fails.py"
    fails.write_text("def test_fails() -> None:\n    assert False\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "--rootdir", str(tmp_path), str(fails)]
    environment = {**os.environ, ENVIRONMENT: "lag=0.5"}
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert f"{ENVIRONMENT}=lag=0.5,seed=0" in ended.stdout.partition("FAILURES")[2]


def test_names_are_written_either_way_and_values_are_taken_as_they_are() -> None:
    assert Switches.of("lag-seconds=1e-3, seed = -7,empty_pages=0.5") == Switches(
        lag_seconds=0.001, seed=-7, empty_pages=0.5
    )


def run(*arguments: str, switches: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.cosmos_emulator", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, ENVIRONMENT: switches},
    )


@pytest.mark.parametrize(
    ("arguments", "switches", "words"),
    [
        (["--port", "65536"], "", "65536"),
        (["--port", "-1"], "", "-1"),
        (["--port", "x"], "", "invalid int value"),
        (["--port", "0", "--key", "not base64"], "", "The account key is not base64."),
        (["--port", "0", "--key", ""], "", "The account key is empty."),
        (["--port", "0", "--partitions", "0"], "", "one physical partition or more, not 0"),
        (["--port", "0"], "lag=2", "The switch lag is a share from 0 to 1, not 2.0."),
        (["--port", "0"], "lagging=1", "There is no switch 'lagging'"),
    ],
)
def test_a_command_line_that_means_nothing_ends_with_a_sentence_and_2(
    arguments: list[str], switches: str, words: str
) -> None:
    ended = run(*arguments, switches=switches)
    assert ended.returncode == 2
    assert words in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


def test_a_port_that_another_process_has_ends_with_a_sentence_and_2() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = run("--port", port)
    assert ended.returncode == 2
    assert port in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("level", LEVELS)
async def test_what_is_stronger_than_a_session_meets_no_replica_that_lags(level: str) -> None:
    switches = Switches(lag=1.0, lag_seconds=60, consistency=level)
    async with CosmosEmulator(switches=switches) as emulator:
        emulator.provision("shop", "one", "/pk")
        await send(emulator, "POST", "dbs/shop/colls/one/docs", {"id": "a", "pk": "p"}, KEY)
        expected = 200 if level in {"Strong", "BoundedStaleness"} else 404
        assert (await send(emulator, "GET", ITEM, headers=KEY)).status == expected
        less = {**KEY, "x-ms-consistency-level": "Eventual"}
        assert (await send(emulator, "GET", ITEM, headers=less)).status == 404


async def test_a_server_that_was_stopped_is_found_no_more() -> None:
    async with CosmosEmulator() as emulator:
        endpoint = emulator.endpoint
        assert CosmosEmulator.at(endpoint) is emulator
    assert CosmosEmulator.at(endpoint) is None


@pytest.mark.parametrize("at", ["0G", "zz", "²"])
async def test_a_split_at_what_is_no_effective_key_is_a_bad_request(at: str) -> None:
    async with CosmosEmulator() as emulator:
        emulator.provision("shop", "one", "/pk")
        answer = await send(emulator, "POST", f"_emulator/split?database=shop&container=one&range=0&at={at}")
        assert answer.status == 400
        assert emulator.ranges("shop", "one") == ["0"]
