"""Finds heaplab's own designs in Python: the modules of heaplab.allocators.designs."""

import importlib
import pkgutil
from collections.abc import Iterator
from functools import cache
from types import ModuleType

from heaplab.allocators.base import Allocator


@cache
def python_designs() -> dict[str, type[Allocator]]:
    """Return the designs in Python by name.

    >>> python_designs()["buddy"].__name__
    'Buddy'
    """
    package = importlib.import_module("heaplab.allocators.designs")
    modules = [
        importlib.import_module(f"{package.__name__}.{module.name}")
        for module in pkgutil.iter_modules(package.__path__)
    ]
    return {design.NAME: design for module in modules for design in defined_in(module)}


def defined_in(module: ModuleType) -> Iterator[type[Allocator]]:
    """Yield the Allocator classes that the module itself defines."""
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, Allocator) and value.__module__ == module.__name__:
            yield value
