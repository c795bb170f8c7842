"""Takes from a text what is nobody's business: absolute paths, and paths with the name of a user."""

import getpass
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# A path that begins at the root, at a home, or above the folder; not a part of a URL or of another path.
_PATH = re.compile(r"""(?<![\w./@:)\]-])(?:~[\w.-]*/|/|(?:\.\./)+|[A-Za-z]:\\)[^\s"'`|<>,]+""")


def without_private_paths(text: str) -> str:
    """The text with only the last part of such paths. Relative paths that name no user stay."""
    users = _users()
    return _PATH.sub(lambda match: _shown(match[0], users), text)


def without_private_values(value: Any) -> Any:
    """A value of JSON in which texts that are such paths, and nothing else, have only their last part."""
    if isinstance(value, Mapping):
        return {key: without_private_values(one) for key, one in value.items()}
    if isinstance(value, list):
        return [without_private_values(one) for one in value]
    return _shown(value, _users()) if isinstance(value, str) and _PATH.fullmatch(value) else value


def _shown(path: str, users: set[str]) -> str:
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", "..")]
    is_absolute = not path.startswith("..") and len(parts) > 1
    return parts[-1] if parts and (is_absolute or users & set(parts)) else path


def _users() -> set[str]:
    """The name of the user of this process, and of the home."""
    found = set()
    for ask in (getpass.getuser, lambda: Path.home().name):
        try:
            found.add(ask())
        except (OSError, KeyError, RuntimeError, ImportError):  # a container's user may have no name, and no home
            continue
    return found - {""}
