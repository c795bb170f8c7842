"""Writes the documentation of the merge methods from their docstrings and signatures.

The directive `merge-methods` expands to one section per registered method: formula, paper and edge cases from the
docstring, and a table of the options with the types and defaults from the code.
"""

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from mmgrid.merging import METHODS, Method
from mmgrid.merging.methods.stages import STAGES, Stage

_SECTION = re.compile(r"^(Args|Raises):\n((?: .*\n?|\n)+)", re.MULTILINE)
_ENTRY = re.compile(r"^(\w+): (.*)$")
_CODE = re.compile(r"(`[^`\n]+`)")
_MARKUP = re.compile(r"([\\*_\[\]<>|{}#])")
_LABELS = {"Paper": "Paper", "Edges": "Edge cases"}
_URL = re.compile(r"https://[^\s,;)]*[^\s,;).]")
_NEEDS = {
    "element": "single elements",
    "row": "whole rows",
    "tensor": "whole tensors",
    "model": "the whole model",
}
_BASE = {"required": "required", "optional": "optional", "none": "not used"}


class MergeMethods(SphinxDirective):
    """One section per method, in the order of the registry."""

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes("\n\n".join(map(method_text, METHODS.values())), allow_section_headings=True)


class MergeStages(SphinxDirective):
    """One section per stage."""

    def run(self) -> list[nodes.Node]:
        texts = [stage_text(name, stage) for name, stage in STAGES.items()]
        return self.parse_text_to_nodes("\n\n".join(texts), allow_section_headings=True)


def method_text(method: Method) -> str:
    """The section on a method, in Markdown."""
    prose, meanings = read_docstring(method.function.__doc__ or "")
    formula, *paragraphs = prose
    schema = method.options.model_json_schema()["properties"]
    options = {name: entry for name, entry in schema.items() if name != "stages"}
    missing = [name for name in options if name not in meanings]
    assert not missing, f"{method.name}: its docstring does not explain {', '.join(missing)}"
    facts = f"Base: {_BASE[method.base]}. Works on {_NEEDS[method.needs]}"
    facts += " and takes [stages](#stages)." if "stages" in schema else "."
    facts += " Takes [statistics](learned.md#statistics)." if method.statistics else ""
    return "\n\n".join(
        [
            f"### {method.name}",
            formula,
            *paragraphs,
            facts,
            *_presets(method),
            *_table(options, meanings, method.per_source),
        ]
    )


def stage_text(name: str, stage: type[Stage]) -> str:
    """The section on a stage, in Markdown."""
    prose, _ = read_docstring(stage.__doc__ or "")
    schema = stage.model_json_schema()["properties"]
    own = {option: entry for option, entry in schema.items() if "description" in entry}
    meanings = {option: markdown(entry["description"]) for option, entry in own.items()}
    return "\n\n".join([f"### {name}", *prose, *_table(own, meanings, ())])


def read_docstring(text: str) -> tuple[list[str], dict[str, str]]:
    """The paragraphs of a docstring, and the text on each argument, both in Markdown."""
    text = inspect.cleandoc(text) + "\n"
    sections = {found[1]: inspect.cleandoc(found[2]) for found in _SECTION.finditer(text)}
    arguments: dict[str, str] = {}
    for line in sections.get("Args", "").splitlines():
        begun = _ENTRY.match(line)
        if begun:
            arguments[begun[1]] = begun[2]
        else:
            last = next(reversed(arguments))
            arguments[last] += " " + line.strip()
    prose = _SECTION.sub("", text).strip().split("\n\n")
    paragraphs = [_line(paragraph) for paragraph in prose]
    if "Raises" in sections:
        errors = re.sub(r"^MergeError: ", "", " ".join(sections["Raises"].split()))
        paragraphs.append(f"**Errors:** {markdown(errors)}")
    return paragraphs, {name: markdown(text) for name, text in arguments.items()}


def _line(paragraph: str) -> str:
    line = markdown(" ".join(paragraph.split()))
    return re.sub(r"^(Paper|Edges):", lambda label: f"**{_LABELS[label[1]]}:**", line)


def markdown(text: str) -> str:
    """Converts plain text with `code` and URLs to Markdown, everything else escaped."""
    parts = _CODE.split(text)
    return "".join(part if place % 2 else _plain(part) for place, part in enumerate(parts))


def _plain(text: str) -> str:
    done, written = 0, ""
    for url in _URL.finditer(text):
        written += _MARKUP.sub(r"\\\1", text[done : url.start()]) + f"<{url[0]}>"
        done = url.end()
    return written + _MARKUP.sub(r"\\\1", text[done:])


def _presets(method: Method) -> Iterator[str]:
    for name, preset in method.presets.items():
        options = ", ".join(f"`{option} = {_value(value)}`" for option, value in preset.options.items())
        weights = "; sources without a weight get 1/N" if preset.equal_weights else ""
        yield f"**Preset** `{name}`: {options}{weights}."


def _table(schema: Mapping[str, Any], meanings: Mapping[str, str], per_source: tuple[str, ...]) -> Iterator[str]:
    if not schema:
        return
    rows = ["| option | values | default | meaning |", "|---|---|---|---|"]
    for name, entry in schema.items():
        values = _values(entry) + (", or one per source" if name in per_source else "")
        default = "–" if entry["default"] is None else f"`{_value(entry['default'])}`"
        rows.append(f"| `{name}` | {values} | {default} | {meanings[name]} |")
    yield "\n".join(rows)


def _values(entry: Mapping[str, Any]) -> str:
    """The allowed values of an option, from its JSON schema."""
    if "anyOf" in entry:
        return " or ".join(_values(part) for part in entry["anyOf"] if part["type"] != "null")
    if "enum" in entry:
        return ", ".join(f"`{_value(value)}`" for value in entry["enum"])
    if "const" in entry:
        return f"`{_value(entry['const'])}`"
    if entry["type"] == "boolean":
        return "`true`, `false`"
    bounds = {
        "minimum": "from {:g}",
        "exclusiveMinimum": "above {:g}",
        "maximum": "to {:g}",
        "exclusiveMaximum": "below {:g}",
    }
    kind = {"integer": "integer", "number": "number"}[entry["type"]]
    return " ".join([kind, *(text.format(entry[key]) for key, text in bounds.items() if key in entry)])


def _value(value: Any) -> str:
    """A value in YAML."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def setup(app: Sphinx) -> None:
    app.add_directive("merge-methods", MergeMethods)
    app.add_directive("merge-stages", MergeStages)
