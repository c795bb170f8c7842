"""Loads YAML with the line of every key, so that errors can name it."""

from pathlib import Path
from typing import Any

import yaml

from mmgrid.files.bounded_yaml import BoundedLoader


class Lined(dict[Any, Any]):
    """A mapping of a YAML file.

    Attributes:
        file: the file.
        line: the line at which it begins.
        lines: key → its line.
        twice: keys that are given more than once; the last one counts.
    """

    file: str
    line: int
    lines: dict[Any, int]
    twice: tuple[str, ...]


def load_lined(path: Path) -> list[Any]:
    """The documents of a YAML file, with `Lined` mappings.

    Raises:
        FileNotFoundError, yaml.YAMLError, ValueError, RecursionError: it is missing, or not YAML.
    """

    class Loader(BoundedLoader):
        pass

    def mapping(loader: Loader, node: yaml.MappingNode) -> Any:
        value = Lined()
        value.file, value.line = str(path), node.start_mark.line + 1
        yield value
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        value.twice = tuple(dict.fromkeys(name for name in names if names.count(name) > 1))
        loader.flatten_mapping(node)
        value.update(loader.construct_mapping(node))
        value.lines = {loader.construct_object(key): key.start_mark.line + 1 for key, _ in node.value}

    Loader.add_constructor("tag:yaml.org,2002:map", mapping)
    loader = Loader(path.read_bytes())
    documents = []
    try:
        while loader.check_data():
            documents.append(loader.get_data())
    finally:
        loader.dispose()
    return documents


def at(where: str, value: Any, key: Any = None) -> str:
    """`where`, which begins with the file's name, with the line of a mapping or of one of its keys.

    The line is inserted behind the file's name, in place of any other.
    """
    if not isinstance(value, Lined) or not where.startswith(value.file):
        return where
    line, rest = value.lines.get(key, value.line), where.removeprefix(value.file)
    if rest.startswith(", line "):
        rest = rest.removeprefix(", line ").lstrip("0123456789")
    return f"{value.file}, line {line}{rest}"
