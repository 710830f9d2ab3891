"""A web service whose refunds are paid at once where they are small, and else when a person has said yes.

Shows: runs that are started over HTTP and outlive the process; an inbox of the questions that they wait with; an answer
that is acted on once, whoever else answers, on however many servers; runs that go on after `kill -9`.
docs/web-service.md tells how it works and what to change before customers meet it.

Needs:    pip install '.[cosmos,projector,samples]'      (in a checkout; `cosmos` only for Azure Cosmos DB)
Run it:   uvicorn --app-dir samples --factory web_service.app:create_app --limit-concurrency 200 \
              --timeout-graceful-shutdown 20
          with EVENTCKPT_STORE a path, or AZURE_COSMOS_... naming an account; without either: web-service.db, here.
          Start as many as you like over one store.

    curl -H 'X-User: ms-lind' -d '{"id": "r-1", "customer": "c-17", "euros": 180}' localhost:8000/runs
    curl -H 'X-User: mr-okafor' localhost:8000/questions
    curl -H 'X-User: mr-okafor' -d true localhost:8000/runs/r-1/answers/REQUEST
    curl -H 'X-User: ms-lind' localhost:8000/runs/r-1

Modules:  workflows.py is what would run without any web service, runs.py what goes on between it and the store, app.py
          the HTTP around that.

Who asks and who answers is what the header X-User says: `user_of` in app.py is where your authentication goes.
"""
