"""Objects that are what their configuration says."""

from typing import Any


class Configured:
    """Base class of objects without state, equal if their types and their `get_config` are."""

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor, by name."""
        raise NotImplementedError

    @classmethod
    def from_config(cls, config: dict[str, Any]):
        """Return the object that has this configuration."""
        return cls(**config)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{key}={value!r}" for key, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.get_config() == other.get_config()  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash(repr(self))
