"""Reads YAML whose size is bounded by its length: aliases may repeat a part, but not multiply without end."""

from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.scanner import ScannerError

MOST_REPEATED = 100_000
"""The elements that aliases may repeat in all: mergekit files repeat some hundred."""
DEEPEST = 64
"""Brackets within brackets. The scanner goes over all that are open for each sign, so the time grows with their square."""


class BoundedLoader(yaml.SafeLoader):
    """PyYAML's safe loader, which refuses documents that lead back to themselves, or whose aliases repeat too much."""

    def compose_document(self) -> yaml.Node | None:
        node = super().compose_document()
        if node is not None and self._aliases:
            _check_repeats(node)
        return node

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._aliases += self.check_event(yaml.AliasEvent)
        return super().compose_node(parent, index)

    def fetch_flow_collection_start(self, TokenClass: Any) -> None:
        if self.flow_level >= DEEPEST:
            raise ScannerError(None, None, f"more than {DEEPEST} brackets are open", self.get_mark())
        super().fetch_flow_collection_start(TokenClass)

    _aliases = 0


def load_yaml(text: str | bytes) -> Any:
    """The content of a YAML document of plain values. Raises yaml.YAMLError, also for aliases without bound."""
    return yaml.load(text, BoundedLoader)


def _check_repeats(root: yaml.Node) -> None:
    """Raises ComposerError if the document has many more elements than its text, or a part of it contains itself."""
    sizes: dict[int, int] = {}
    inside: set[int] = set()

    def size(node: yaml.Node) -> int:
        key = id(node)
        if key in inside:
            raise ComposerError(None, None, "an alias leads back into itself", node.start_mark)
        if key not in sizes:
            inside.add(key)
            sizes[key] = 1 + sum(map(size, _below(node)))
            inside.discard(key)
        return sizes[key]

    if size(root) > len(sizes) + MOST_REPEATED:
        text = f"its aliases repeat more than {MOST_REPEATED:,} elements"
        raise ComposerError(None, None, text, root.start_mark)


def _below(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []
