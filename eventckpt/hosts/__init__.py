"""Adapters to the framework's hosts, a module for each. A module needs its host's package; import it by its own name."""
