"""Read models derived from the event log: disposable, and rebuilt from it at any time."""
