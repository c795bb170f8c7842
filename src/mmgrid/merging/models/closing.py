"""What a `with` block closes at its end."""

from abc import ABC, abstractmethod
from typing import Self


class Closing(ABC):
    """Holds something open until `close` is called, or the `with` block ends."""

    @abstractmethod
    def close(self) -> None:
        """Close it; what it gave is not to be used any more."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
