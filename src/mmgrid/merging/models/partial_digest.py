"""The digest of the first bytes of a file, which grows towards the whole file."""

from collections.abc import Callable
from pathlib import Path

from mmgrid.files import Digest, new_digest

_BLOCK_BYTES = 1 << 19  # they stay in a core's second-level cache until they are hashed


class PartialDigest:
    """The digest of a file's first `position` bytes. One thread at a time may change it.

    Args:
        kind: one of `mmgrid.files.DIGEST_KINDS`.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, file: Path, kind: str) -> None:
        self._stream, self._kind = file.open("rb", buffering=0), kind
        self.restart()

    def restart(self) -> None:
        """Begin again with no bytes."""
        self._digest: Digest = new_digest(self._kind)
        self.position = 0

    def add(self, content: memoryview) -> None:
        """Add the bytes that come next."""
        self._digest.update(content)
        self.position += len(content)

    def read(self, stop: int | None = None, progress: Callable[[int], None] = lambda _: None) -> None:
        """Add the bytes of the file before `stop`, or all; fewer if it is shorter.

        progress: called with the number of bytes that were read since the last call.

        Raises:
            OSError: the file cannot be read.
        """
        if stop is not None and stop <= self.position:
            return
        # Not kept: a merge may follow hundreds of shards.
        size = _BLOCK_BYTES if stop is None else min(_BLOCK_BYTES, stop - self.position)
        buffer = memoryview(bytearray(size))
        self._stream.seek(self.position)
        while stop is None or self.position < stop:
            wanted = size if stop is None else min(size, stop - self.position)
            count = self._stream.readinto(buffer[:wanted])
            if not count:
                break
            self.add(buffer[:count])
            progress(count)

    def hexdigest(self) -> str:
        """The digest in hexadecimal digits."""
        return self._digest.hexdigest()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
