"""Chat formats by name, as Jinja templates: which marks stand around a message, and in which order.

The marks are those that the models' makers document: ChatML (OpenAI), Llama 3 (Meta), Mistral (its first instruct models),
EXAONE (LG AI), Alpaca (Stanford). mergekit ships templates of the same names, of which three have other white space; in its
files a name means these, so each format is written with its gaps as parameters.
"""

import re

from mmgrid.merging.errors import MergeError, nearest

_CHATML = """\
{%- for message in messages -%}
{{ '<|im_start|>' ~ message.role ~ '\\n' ~ message.content ~ '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""
_LLAMA3 = """\
{{- bos_token -}}
{%- for message in messages -%}
{{ '<|start_header_id|>' ~ message.role ~ '<|end_header_id|>\\n\\n' ~ message.content | trim ~ '<|eot_id|>GAP' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif -%}
"""
_MISTRAL = """\
{%- set system = messages[0].content ~ '\\n\\n' if messages[0].role == 'system' else '' -%}
{{- bos_token -}}
{%- set turns = messages[1:] if system else messages -%}
{%- for message in turns -%}
{%- if message.role not in ('user', 'assistant') -%}
{{ raise_exception('Mistral: a message is by user or assistant, except for one by system at the beginning') }}
{%- elif (message.role == 'user') != (loop.index0 % 2 == 0) -%}
{{ raise_exception('Mistral: user and assistant must take turns, and user begins') }}
{%- elif message.role == 'user' -%}
{{ ' [INST] ' ~ (system if loop.first else '') ~ message.content ~ ' [/INST]' }}
{%- else -%}
{{ ' ' ~ message.content ~ eos_token }}
{%- endif -%}
{%- endfor -%}
"""
_EXAONE = """\
{%- if messages[0].role != 'system' -%}{{ 'WIDE[|system|][|endofturn|]\\nGAP' }}{%- endif -%}
{%- for message in messages -%}
{{ 'NARROW[|' ~ message.role ~ '|]' ~ message.content ~ 'GAPWIDE' ~ ('' if message.role == 'user' else '[|endofturn|]') ~ '\\nGAP' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'NARROW[|assistant|]GAP' }}{%- endif -%}
"""
_ALPACA = """\
{%- set systems = messages | selectattr('role', 'equalto', 'system') | list -%}
{{ (systems | last).content | trim ~ '\\n\\n' if systems else 'GAP' }}
{%- for message in messages -%}
{%- set titles = {'user': 'Instruction', 'user_context': 'Input', 'assistant': 'Response'} -%}
{%- if message.role in titles -%}
{{ '### ' ~ titles[message.role] ~ ':\\n' ~ message.content | trim ~ ('' if loop.last else '\\n\\n') }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt and messages[-1].role != 'assistant' -%}{{ 'BEFORE### Response:\\n' }}{%- endif -%}
"""
# Name → the template, its gaps as the format has them, and its gaps in mergekit's template of this name.
_FORMATS: dict[str, tuple[str, dict[str, str], dict[str, str]]] = {
    "alpaca": (_ALPACA, {"GAP": "", "BEFORE": "\\n\\n"}, {"GAP": "\\n\\n", "BEFORE": ""}),
    "chatml": (_CHATML, {}, {}),
    "exaone": (
        _EXAONE,
        {"GAP": "", "WIDE": "", "NARROW": ""},
        {"GAP": "\\n", "WIDE": " " * 8, "NARROW": " " * 4},
    ),
    "llama3": (_LLAMA3, {"GAP": ""}, {"GAP": "\\n"}),
    "mistral": (_MISTRAL, {}, {}),
}
CHAT_FORMATS = tuple(_FORMATS)


def chat_template(text: str, *, as_mergekit: bool = False) -> str:
    """The template of a format by its name; a template itself is returned as it is.

    Args:
        as_mergekit: with the white space of mergekit's template of this name; and texts that mergekit takes for no template
            are refused, too.

    Raises:
        MergeError: the text is neither.
    """
    if text in _FORMATS:
        template, own, mergekits = _FORMATS[text]
        for gap, value in (mergekits if as_mergekit else own).items():
            template = template.replace(gap, value)
        return template
    if not is_template(text) or (as_mergekit and (len(text) < 20 or "{" not in text)):
        known = ", ".join(CHAT_FORMATS)
        raise MergeError(
            f"chat_template: {text!r} is no template{nearest(text, CHAT_FORMATS)}; give one in Jinja, or the name of a format: "
            f"{known}"
        )
    return text


def is_template(text: str) -> bool:
    """Whether a text can be a template: a single word is a name."""
    return re.fullmatch(r"[\w.-]+", text) is None
