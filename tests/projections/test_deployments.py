"""The ways to run the projector that the samples show: a Function, a Deployment with a scaler, a container image."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import shlex
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import azure.functions as func
import pytest
import yaml
from typer.main import get_command

from projections import ProcessorOptions, compare, open_engine
from projections.options import RELEASING
from projections.projector import Projector
from projections.worker import app
from projections.worker.scaler import ScalerLeases

from ..engines import CosmosEngine
from .rig import Rig

ROOT = Path(__file__).parent.parent.parent
FUNCTION = ROOT / "samples" / "functions_projector"
KUBERNETES = ROOT / "samples" / "kubernetes"


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("function_app", FUNCTION / "function_app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_function_is_bound_to_the_events_and_never_gives_up() -> None:
    [function] = loaded().app.get_functions()
    definition = json.loads(function.get_function_json())
    [binding] = definition["bindings"]
    assert binding["type"] == "cosmosDBTrigger"
    assert binding["leaseContainerPrefix"]
    assert binding["startFromBeginning"] is True
    assert "createLeaseContainerIfNotExists" not in binding  # an Entra ID may not create containers
    retry = function.get_settings_dict("retry_policy")
    assert (retry["strategy"], retry["max_retry_count"]) == ("exponential_backoff", "-1")
    host = json.loads((FUNCTION / "host.json").read_text(encoding="utf-8"))
    assert host["version"] == "2.0"


async def test_the_function_applies_what_the_trigger_delivers(cosmos_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = cosmos_rig
    assert isinstance(rig.engine, CosmosEngine)
    await rig.writer.write("a", "b", count=3, data=b"x" * 600_000)
    names = {"ENDPOINT": "endpoint", "KEY": "credential", "DATABASE_NAME": "database_name",
             "CONTAINER_NAME": "container_name"}  # fmt: skip
    for name, setting in names.items():
        monkeypatch.setenv(f"AZURE_COSMOS_{name}", rig.engine.settings[setting])
    function = loaded()
    container: Any = await rig.writer.store.container()
    items = [item async for item in container.read_all_items()]
    assert any(item["type"] == "part" for item in items)
    [bound] = function.app.get_functions()
    handler = bound.get_user_function()
    try:
        await handler(func.DocumentList(func.Document.from_dict(item) for item in items))
        store = rig.writer.store
        assert [each async for each in compare(store, open_engine(store).feed, store.runs())] == []
    finally:
        await function.store().close()


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((KUBERNETES / name).read_text(encoding="utf-8")))


def the_container() -> Any:
    [deployment] = documents("projector.yaml")
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    return container


def test_the_deployment_runs_the_worker_with_options_that_it_has() -> None:
    [deployment] = documents("projector.yaml")
    container = the_container()
    command, *options = container["args"]
    known = {name for parameter in commands()[command].params for name in parameter.opts}
    assert {option for option in options if option.startswith("--")} <= known
    assert deployment["spec"]["selector"]["matchLabels"] == deployment["spec"]["template"]["metadata"]["labels"]


def test_a_pod_is_given_longer_to_end_than_a_worker_takes_in_an_outage() -> None:
    """For its handlers, its leases, and the copies for the scaler; and some seconds to close what is open."""
    [deployment] = documents("projector.yaml")
    grace = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace >= ProcessorOptions().stop_timeout + 2 * RELEASING + 10


def test_what_starts_a_container_anew_is_whether_it_lives_and_not_whether_its_store_is_up() -> None:
    container = the_container()
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert container["readinessProbe"]["httpGet"]["path"] == "/healthz"


@pytest.mark.parametrize("scaler", ["keda-external.yaml", "keda-prometheus.yaml"])
def test_a_scaler_scales_the_deployment(scaler: str) -> None:
    [deployment], [scaled] = documents("projector.yaml"), documents(scaler)
    assert (scaled["kind"], scaled["apiVersion"]) == ("ScaledObject", "keda.sh/v1alpha1")
    assert scaled["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]


def test_the_external_scaler_finds_its_connections_where_keda_looks_for_them() -> None:
    """In the environment of the container that is scaled. It takes no TriggerAuthentication, and has a lease connection
    of its own or none at all."""
    metadata = documents("keda-external.yaml")[0]["spec"]["triggers"][0]["metadata"]
    environment = {each["name"] for each in the_container()["env"]}
    assert {metadata["connectionFromEnv"], metadata["leaseConnectionFromEnv"]} <= environment


async def test_the_scaler_reads_leases_that_the_worker_writes_under_a_name_that_stays(cosmos_rig: Rig) -> None:
    metadata = documents("keda-external.yaml")[0]["spec"]["triggers"][0]["metadata"]
    options = the_container()["args"]
    name = options[options.index("--scaler-name") + 1]
    assert name == metadata["processorName"]
    assert metadata["leaseContainerId"] == f"{metadata['containerId']}-leases"
    engine = open_engine(cosmos_rig.writer.store)
    await cosmos_rig.writer.write("a")
    projector = Projector(engine, ProcessorOptions(worker="one"), clock=cosmos_rig.clock)
    stop = asyncio.Event()
    copies = ScalerLeases(engine, projector, name, "one", cosmos_rig.clock)
    working = asyncio.ensure_future(copies.copy_during(projector.run(stop)))
    await cosmos_rig.clock.until(lambda: getattr(projector.projection, "applied", 0) == 1)
    stop.set()
    await working
    # As KEDA's scalers and .NET's estimator find them: by the name, the account's host, and the container's ids.
    host = urlsplit(str(cosmos_rig.engine.settings["endpoint"])).hostname
    found = await engine.documents.list_documents(f"{name}{host}_")
    assert [(each["LeaseToken"], each["version"]) for each in found] == [("-FF", 1)]
    assert found[0]["ContinuationToken"]


def test_the_image_installs_the_worker_and_starts_it_without_a_shell() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    by_word = {line.split(" ", 1)[0]: line.split(" ", 1)[1] for line in lines if re.match(r"[A-Z]+ ", line)}
    assert json.loads(by_word["ENTRYPOINT"]) == ["eventckpt-projector"]
    command, *options = json.loads(by_word["CMD"])
    assert "--host" in {name for parameter in commands()[command].params for name in parameter.opts}
    assert options == ["--host", "0.0.0.0"]
    copied = [word for line in lines if line.startswith("COPY") and "--from" not in line for word in line.split()[1:-1]]
    assert all((ROOT / name).exists() for name in copied)
    assert any("[cosmos,projector]" in word for line in lines if "pip install" in line for word in shlex.split(line))


def commands() -> dict[str, Any]:
    return get_command(app).commands
