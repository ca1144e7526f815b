"""Imports put off: modules that a library imports at its top and few rules need."""

import importlib
import importlib.util
import sys


def load_when_used(name: str) -> None:
    """Let a module that the library imports at its top, and few rules need, be loaded at its first use.

    Args:
        name: of a module inside a package; nothing happens when it is loaded already or not installed.
    """
    spec = importlib.util.find_spec(name)
    if name in sys.modules or spec is None or spec.loader is None:
        return
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    parent, _, child = name.rpartition(".")
    setattr(importlib.import_module(parent), child, module)
