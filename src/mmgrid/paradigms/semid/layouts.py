"""The layout of LC-Rec's official code: what it lacks, as options. Imports no torch.

Facts from github.com/zhengbw0324/LC-Rec at commit 4dde5da: `finetune.py`, `test.py`, `data.py`, `prompt.py`, `utils.py`,
`index/generate_indices.py`, `data_process/amazon18_data_process.py`.
"""

from pydantic import Field

from mmgrid.frozen import Frozen
from mmgrid.paradigms.layouts import Layout

EVALUATION_VALUES = {"beam_width": 20, "renormalise": "vocabulary", "hits": "code", "masked": "nothing"}


class LcRecImport(Frozen):
    """What an LC-Rec model folder does not say."""

    index: str | None = Field(
        default=None, description="the index file, item → tokens; default: the only *.index.json of the folder"
    )
    items: str | None = Field(
        default=None,
        description="folder of the prepared domain, whose item ids are looked up; default: the numbers are its rows",
    )
    item_ids: str | None = Field(
        default=None, description="LC-Rec's NAME.item2id, from item ids to numbers; with items"
    )
    domain: str | None = Field(default=None, description="the domain's name; default: the index file's")
    history_length: int = Field(default=20, ge=1, description="items of a history (max_his_len)")
    separator: str = Field(default=", ", description="between the items of a history (his_sep)")
    instruction: str = Field(
        default="The user has interacted with items {inters} in chronological order. Can you predict the next "
        "possible item that the user may expect?",
        description="of the evaluation, with {inters}; default: the official prompt 0",
    )


class LcRecExport(Frozen):
    """Options of `mmgrid export --to lc-rec`."""

    own_prompts: bool = Field(
        default=False, description="export a model that was trained here, with prompts that LC-Rec does not have"
    )


LC_REC = Layout(
    name="lc-rec",
    about="LC-Rec, github.com/zhengbw0324/LC-Rec: a causal language model with tokens <a_0>, and an index file",
    converter="mmgrid.paradigms.semid.lc_rec",
    import_options=LcRecImport,
    export_options=LcRecExport,
)
