"""The layout of BIGRec's official code: what it lacks, as options. Imports no torch.

Facts from github.com/SAI990323/BIGRec at commit bb4dd0a: `train.py`, `inference.py`, `data/embedding.ipynb`, and
`process.ipynb` and `evaluate.py` of `data/movie` and `data/game`.
"""

from typing import Literal

from pydantic import Field, field_validator

from mmgrid.frozen import Frozen
from mmgrid.paradigms.layouts import Layout

SETTINGS_FILE = "bigrec.json"  # what the weights do not say, in what `export` wrote


class BigrecImport(Frozen):
    """What a BIGRec model does not say. Defaults: a `bigrec.json` next to the weights, else those of the code."""

    base: str | None = Field(
        default=None,
        description="the language model that it was tuned from, a folder or a name on the Hub; it embeds titles; "
        "default: the one that an adapter names",
    )
    data: Literal["movie", "game"] | None = Field(
        default=None, description="take instruction, history and hits of this official data set"
    )
    instruction: str | None = Field(default=None, description="the prompt's instruction; needed without data")
    history: str | None = Field(
        default=None, description="the prompt's input before the titles of the history; needed without data"
    )
    hits: Literal["item", "title"] | None = Field(
        default=None, description='which items count as the target; default: "item" for movie, else "title"'
    )
    history_length: int | None = Field(default=None, ge=1, description="items of a history; default 10")
    beams: int | None = Field(default=None, ge=1, description="of the beam search (num_beams); default 4")
    new_tokens: int | None = Field(default=None, ge=1, description="of an answer (max_new_tokens); default 128")
    domain: str | None = Field(default=None, description="the domain that it was trained on")

    @field_validator("base")
    @classmethod
    def _named(cls, base: str | None) -> str | None:
        if base is not None and not base.strip():
            raise ValueError("is empty; name a folder or a model on the Hub")
        return base


class BigrecExport(Frozen):
    """Options of `mmgrid export --to bigrec`."""

    own_prompts: bool = Field(
        default=False, description="export a model that was trained here, with prompts that BIGRec does not have"
    )


BIGREC = Layout(
    name="bigrec",
    about="BIGRec, github.com/SAI990323/BIGRec: a plain causal language model or a LoRA adapter, and a prompt",
    converter="mmgrid.paradigms.text.bigrec",
    import_options=BigrecImport,
    export_options=BigrecExport,
)
