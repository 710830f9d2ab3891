"""The ways to run the projector that the samples show: a Function, a Deployment with a scaler, a container image."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

import azure.functions as func
import pytest
import yaml
from typer.main import get_command

from projections import ProcessorOptions, compare, open_engine
from projections.projector import Projector
from projections.worker import app

from ..engines import CosmosEngine
from .rig import Rig

ROOT = Path(__file__).parent.parent.parent
FUNCTION = ROOT / "samples" / "functions_projector"
KUBERNETES = ROOT / "samples" / "kubernetes" / "projector.yaml"


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


def test_the_deployment_runs_the_worker_with_options_that_it_has() -> None:
    deployment, scaler = yaml.safe_load_all(KUBERNETES.read_text(encoding="utf-8"))
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    command, *options = container["args"]
    known = {name for parameter in commands()[command].params for name in parameter.opts}
    assert {option for option in options if option.startswith("--")} <= known
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert deployment["spec"]["selector"]["matchLabels"] == deployment["spec"]["template"]["metadata"]["labels"]
    assert pod["terminationGracePeriodSeconds"] > 20
    assert scaler["kind"] == "ScaledObject"
    assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]


async def test_the_scaler_reads_the_leases_that_the_worker_writes(cosmos_rig: Rig) -> None:
    _, scaler = yaml.safe_load_all(KUBERNETES.read_text(encoding="utf-8"))
    metadata = scaler["spec"]["triggers"][0]["metadata"]
    opened = open_engine(cosmos_rig.writer.store)
    active = await cosmos_rig.writer.store.runs().active()
    assert Projector(opened, ProcessorOptions()).leases(active).processor == metadata["processorName"]
    assert metadata["leaseContainerId"] == f"{metadata['containerId']}-leases"


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
