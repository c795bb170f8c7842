"""The layout of HLLM's official code: what it lacks, as options. Imports no torch.

Facts from github.com/bytedance/HLLM at commit 2deed17: `code/HLLM/HLLM.yaml`, `code/REC/model/HLLM/hllm.py`,
`code/REC/data/dataset/batchset.py`, `code/run.py`.
"""

from typing import Literal

from pydantic import Field

from mmgrid.frozen import Frozen
from mmgrid.paradigms.layouts import Layout

SETTINGS_FILE = "hllm.yaml"  # as the official code's --config_file reads it
ITEM_FOLDER, USER_FOLDER = "item_llm", "user_llm"  # config and tokenizer of each language model, in what `export` wrote


class HllmImport(Frozen):
    """What HLLM's weights do not say. Defaults: an `hllm.yaml` next to the weights, else those of `HLLM.yaml`."""

    item_model: str | None = Field(
        default=None, description="folder of the item model's config.json and tokenizer (their item_pretrain_dir)"
    )
    user_model: str | None = Field(
        default=None, description="folder of the user model's config.json (user_pretrain_dir); default: item_model"
    )
    text_keys: tuple[Literal["title", "description", " description"], ...] | None = Field(
        default=None, description='JSON list, fields of an item\'s text (text_keys); default ["title", "description"]'
    )
    item_prompt: str | None = Field(
        default=None, description='text before an item (item_prompt); default "Compress the following … embedding: "'
    )
    max_text_length: int | None = Field(
        default=None, ge=2, description="tokens of an item with its prompt (MAX_TEXT_LENGTH); default 64"
    )
    history_length: int | None = Field(
        default=None, ge=1, description="items of a history (MAX_ITEM_LIST_LENGTH); default 50"
    )
    domain: str | None = Field(default=None, description="the domain that it was trained on")


HLLM = Layout(
    name="hllm",
    about="HLLM, github.com/bytedance/HLLM: two language models, item_llm.* and user_llm.*",
    converter="mmgrid.paradigms.semb.hllm",
    import_options=HllmImport,
)
