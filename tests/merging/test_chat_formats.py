"""Chat formats by name: what their templates render, and that mergekit's templates of these names render the same."""

import importlib.resources
import itertools
from pathlib import Path
from typing import Any

import pytest
from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from kits.tiny_llama import tiny_llama
from mmgrid.merging import MergeError, MergeRecipe, merge
from mmgrid.merging.models.chat_formats import CHAT_FORMATS, chat_template

CHAT = [("system", "Be short."), ("user", " Hi "), ("assistant", "Yes?"), ("user", "Bye")]
RENDERED = {
    "alpaca": "Be short.\n\n### Instruction:\nHi\n\n### Response:\nYes?\n\n### Instruction:\nBye\n\n### Response:\n",
    "chatml": "<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\nYes?<|im_end|>\n"
    "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
    "exaone": "[|system|]Be short.[|endofturn|]\n[|user|] Hi \n[|assistant|]Yes?[|endofturn|]\n[|user|]Bye\n[|assistant|]",
    "llama3": "<s><|start_header_id|>system<|end_header_id|>\n\nBe short.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
    "Hi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nYes?<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
    "Bye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "mistral": "<s> [INST] Be short.\n\n Hi  [/INST] Yes?</s> [INST] Bye [/INST]",
}


def _rendered(template: str, chat: Any, *, trim: bool, prompt: bool = True) -> str | None:
    """What transformers makes of a template, with `trim`; None if the template refuses the chat."""

    def refuse(words: str) -> None:
        raise TemplateError(words)

    environment = ImmutableSandboxedEnvironment(trim_blocks=trim, lstrip_blocks=trim)
    environment.globals["raise_exception"] = refuse
    messages = [{"role": role, "content": content} for role, content in chat]
    values = {"messages": messages, "add_generation_prompt": prompt, "bos_token": "<s>", "eos_token": "</s>"}
    try:
        return environment.from_string(template).render(**values)
    except TemplateError:
        return None


@pytest.mark.parametrize("trim", [True, False])
@pytest.mark.parametrize("name", CHAT_FORMATS)
def test_a_format_renders_its_marks(name: str, trim: bool) -> None:
    assert _rendered(chat_template(name), CHAT, trim=trim) == RENDERED[name]
    backwards = [("assistant", "x"), ("user", "y")]
    assert (_rendered(chat_template(name), backwards, trim=trim) is None) == (name == "mistral")


@pytest.mark.parametrize("name", CHAT_FORMATS)
def test_mergekits_templates_render_the_same(name: str) -> None:
    pytest.importorskip("mergekit", reason="mergekit is not installed")
    from mergekit._data import chat_templates

    theirs = (importlib.resources.files(chat_templates) / f"{name}.jinja").read_text()
    ours = chat_template(name, as_mergekit=True)
    roles = ("system", "user", "assistant", "user_context")
    for number, chosen in enumerate(itertools.chain(*(itertools.product(roles, repeat=n) for n in (1, 2, 3)))):
        chat = [(role, f" x{n}\n" if n % 2 else f"y{n}") for n, role in enumerate(chosen)]
        expected = _rendered(theirs, chat, trim=True, prompt=number % 2 == 0)
        assert _rendered(ours, chat, trim=True, prompt=number % 2 == 0) == expected
        assert _rendered(ours, chat, trim=False, prompt=number % 2 == 0) == expected


def test_a_recipe_names_a_format_or_holds_a_template(tmp_path: Path) -> None:
    sources = [{"path": str(tiny_llama(tmp_path / "a", 0, layers=1))}]
    merge({"method": "linear", "sources": sources, "chat_template": "chatml"}, tmp_path / "out")
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == chat_template("chatml")
    with pytest.raises(
        MergeError, match=r"'chatlm' is no template; did you mean chatml\?; give one in Jinja, or the name"
    ):
        MergeRecipe.load({"method": "linear", "sources": sources, "chat_template": "chatlm"})
