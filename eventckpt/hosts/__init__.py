"""Adapters to the framework's hosts, a module for each, which needs that host's package: import it by its own name."""
