"""Python imports this first in each process that a test starts under `--round-trips`, to watch its storages too."""

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType


class WatchOnceImported(MetaPathFinder):
    """Only looks out for our storages, which must not be imported before the process itself imports them."""

    def find_spec(self, name: str, path: object, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "eventckpt":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_watch(module: ModuleType) -> None:
                execute(module)
                from tests.round_trips import watch

                watch(module.EventCheckpointStorage, module.RunCheckpointStorage)

            spec.loader.exec_module = execute_and_watch
        return spec


sys.meta_path.insert(0, WatchOnceImported())
