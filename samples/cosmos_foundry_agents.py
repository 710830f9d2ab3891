"""Two Foundry agents in a workflow whose checkpoints are in Azure Cosmos DB; one identity opens both, no key anywhere.

Shows: `DefaultAzureCredential` for `CosmosCheckpointStorage`, agents of Microsoft Foundry as executors, and the same
call for the first start and for every restart. What the agents said is in the checkpoint, so that a restart does not
ask the first one again.

Needs:    pip install agent-framework-foundry; `az login`, or a managed identity; the role and the container that
          docs/cosmos.md describes; FOUNDRY_PROJECT_ENDPOINT, FOUNDRY_MODEL, AZURE_COSMOS_ENDPOINT,
          AZURE_COSMOS_DATABASE_NAME and AZURE_COSMOS_CONTAINER_NAME in the environment
Run it:   python samples/cosmos_foundry_agents.py RUN_ID [SUBJECT]
You see:  the reviewed text. Stop it after the first agent, run it again with the same RUN_ID: it goes on from there.
"""

from __future__ import annotations

import argparse
import asyncio

from agent_framework import Agent, AgentResponse, CheckpointStorage, SupportsChatGetResponse, Workflow, WorkflowBuilder
from azure.identity.aio import DefaultAzureCredential
from printing import indented, plain

from eventckpt import CosmosCheckpointStorage

NAME = "product-note"


def build(client: SupportsChatGetResponse) -> Workflow:
    """A new instance of the workflow; its input is the subject of the note, its output the reviewed note."""
    writer = Agent(client, name="writer", instructions="Write a note of two sentences about the product.")
    reviewer = Agent(client, name="reviewer", instructions="Correct the note. Answer with the corrected note alone.")
    return WorkflowBuilder(start_executor=writer, name=NAME, output_from=[reviewer]).add_edge(writer, reviewer).build()


async def work(client: SupportsChatGetResponse, run: CheckpointStorage, subject: str) -> str | None:
    """Go on from the run's latest checkpoint or, where there is none, begin it; None if the run had ended before."""
    workflow = build(client)
    latest = await run.get_latest(workflow_name=NAME)
    if latest is None:
        result = await workflow.run(subject, checkpoint_storage=run)
    else:
        result = await workflow.run(checkpoint_id=latest.checkpoint_id, checkpoint_storage=run)
    notes: list[AgentResponse] = result.get_outputs()
    return notes[-1].text if notes else None


async def main(run_id: str, subject: str) -> None:
    from agent_framework.foundry import FoundryChatClient  # here, so that importing this file needs no Foundry

    async with DefaultAzureCredential() as credential, CosmosCheckpointStorage(credential=credential) as storage:
        note = await work(FoundryChatClient(credential=credential), storage.for_run(run_id), subject)
    print(f"Run {plain(run_id)} of workflow {NAME!r}:")
    print(indented(note) if note else "  ended before; choose another run id to begin again")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Two Foundry agents, with checkpoints in Azure Cosmos DB.")
    parser.add_argument("run_id", help="names the run; the same id goes on with it")
    parser.add_argument("subject", nargs="?", default="a kettle that can be repaired", help="what the note is about")
    args = parser.parse_args()
    asyncio.run(main(args.run_id, args.subject))
