"""How LC-Rec's official code asks a model for the next item (github.com/zhengbw0324/LC-Rec at commit 4dde5da)."""

from collections.abc import Mapping

import numpy as np
from transformers import PreTrainedTokenizerBase

from mmgrid.paradigms.semid.code_tokens import CodeTokens


def official_prompt(
    said: Mapping[str, str], tokenizer: PreTrainedTokenizerBase, tokens: CodeTokens, codes: np.ndarray
) -> np.ndarray:
    """LC-Rec's prompt after a history: int64 [tokens], with the tokenizer's special tokens.

    Args:
        said: of the prompt: `frame`, `instruction`, and `separator` between items.
        codes: of the history's items, int [L, levels]; rows of -1, of items without a code, are left out.
    """
    names = np.array(tokens.names, dtype=object)
    rows = tokens.table[np.arange(codes.shape[1]), codes[codes[:, 0] >= 0]] - tokens.first
    told = said["separator"].join("".join(own) for own in names[rows].tolist())
    text = said["frame"].replace("{instruction}", said["instruction"].replace("{inters}", told))
    return np.asarray(tokenizer(text)["input_ids"], np.int64)
