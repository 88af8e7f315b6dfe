"""Registries: mappings from names to entries, with one file for each entry.

A package declares its registry once::

    CORRUPTIONS = Registry("noise", "dvae_tf.corruptions")  # in corruptions/corruption.py

Every module of that package registers its entry::

    @CORRUPTIONS.register                                   # in corruptions/gaussian.py
    class Gaussian(Corruption):
        name = "gaussian"

The registry imports all modules in the package's folder, so that a new entry is one new file.
"""

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """A mapping from names to entries, in alphabetical order.

    Args:
        argument: name of the argument that takes an entry, for messages: "noise", "likelihood".
        package: name of the package whose modules register the entries. They are imported when
            the registry is first read.
    """

    def __init__(self, argument: str, package: str):
        self._argument = argument
        self._package = package
        self._entries: dict[str, T] = {}
        self._is_complete = False

    def register(self, entry):
        """Add an entry and return it, as a decorator.

        `@REGISTRY.register` uses the entry's attribute `name`; `@REGISTRY.register("mlp")` uses the
        given name.

        Raises:
            ValueError: if another entry has the name.
        """
        if isinstance(entry, str):
            return lambda named: self._add(entry, named)
        return self._add(entry.name, entry)

    def _add(self, name: str, entry: T) -> T:
        before = self._entries.get(name)
        if before is not None and _place(before) != _place(entry):
            raise ValueError(
                f"Each {self._argument} must have a name of its own. "
                f"Received: {name!r}, which names {before!r}. Choose another name."
            )
        self._entries[name] = entry
        return entry

    def choose(self, name: str) -> T:
        """Return the entry of this name.

        Raises:
            ValueError: if there is none; the message lists all names.
        """
        if not isinstance(name, str) or name not in self:
            raise ValueError(
                f"`{self._argument}` must be one of {', '.join(self)}. Received: {name!r}."
            )
        return self[name]

    def _complete(self) -> dict[str, T]:
        if not self._is_complete:
            self._is_complete = True
            folder = importlib.import_module(self._package).__path__
            for module in pkgutil.iter_modules(folder):
                importlib.import_module(f"{self._package}.{module.name}")
        return self._entries

    def __getitem__(self, name: str) -> T:
        return self._complete()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._complete()))

    def __len__(self) -> int:
        return len(self._complete())


def _place(entry) -> tuple[str, str]:
    """Return where an entry is defined. It identifies an entry whose module is executed twice."""
    return getattr(entry, "__module__", ""), getattr(entry, "__qualname__", "")
