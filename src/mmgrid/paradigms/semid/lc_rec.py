"""Reads and writes LC-Rec's official checkpoints (Zheng et al. 2024, github.com/zhengbw0324/LC-Rec at commit 4dde5da).

A model is a causal language model whose vocabulary ends with the code tokens that some item has, in the order of their
strings: `<a_0>`, `<a_1>`, `<a_10>`, … The rows stay as they are; only the tokens get names that tell domains apart, as
all our code tokens have. `NAME.index.json` maps an item's number to its tokens. A list is scored by the log-probability
of the item's tokens and of the end-of-text token, over the whole vocabulary, after an Alpaca prompt.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mmgrid.backbone.load import BackboneError, load_tokenizer
from mmgrid.data.corpus import stored_items
from mmgrid.files import sha256_file, write_json
from mmgrid.merging.models.sources import open_source
from mmgrid.merging.models.weight_files import WEIGHTS_FILE
from mmgrid.paradigms.facts import facts
from mmgrid.paradigms.layouts import LayoutError
from mmgrid.paradigms.semid.code_tokens import CodeTokens, level_name
from mmgrid.paradigms.semid.layouts import EVALUATION_VALUES, LcRecExport, LcRecImport
from mmgrid.paradigms.shared.causal_weights import causal_tensors, token_tensors
from mmgrid.paradigms.shared.foreign_weights import copy_weights, open_weights, read_config
from mmgrid.semantic_ids.item_codes import NO_CODE, ItemCodes

FRAME = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request."
    "\n\n### Instruction:\n{instruction}\n\n### Response:"
)
_TOKEN = re.compile(r"<([a-z])_(\d+)>")


def read(source: Path, folder: Path, options: LcRecImport) -> Mapping[str, Any]:
    """See `Converter.read`."""
    if not source.is_dir():
        raise LayoutError(f"{source}: name the model's folder, with config.json and tokenizer")
    if options.instruction.count("{inters}") != 1:
        raise LayoutError("option instruction: must hold {inters} once, where the history stands")
    file = _index_file(source, options)
    index = _index(file)
    domain = options.domain or file.name.removesuffix(".index.json")
    config = read_config(source)
    with open_weights(source) as weights:
        tensors = causal_tensors(weights, config, source)
        copy_weights(weights, tensors, folder / WEIGHTS_FILE)
        tables = token_tensors(weights, config)
        rows = weights.info(tables[0]).shape[0]
    tokenizer = _tokenizer(source)
    first, names = _token_rows(index, tokenizer.get_vocab(), rows, source)
    codes = _codes(index, options, file)
    digest = sha256_file(file)
    tokens = _tokens(domain, digest, first, names, codes)
    _save_tokenizer(tokenizer, dict(zip(names, tokens.names, strict=True)), folder)
    tokens.save_codes(codes, folder)
    prompt = {"frame": FRAME, "instruction": options.instruction, "separator": options.separator}
    ours = {"paradigm": "semid", "block": tokens.block, "first_token": first, "history_length": options.history_length}
    ours |= {"text_tokens": 64, "title_tokens": 32, "every_position": False, "lc_rec": prompt}
    write_json(folder / "config.json", config | {"vocab_size": rows, "mmgrid": ours})
    rows_of_blocks = [{"name": "backbone", "start": 0, "stop": first}, tokens.entry()]
    return {
        "domain": domain,
        "blocks": {"tensors": tables, "rows": rows_of_blocks},
        "evaluation": {"values": EVALUATION_VALUES},
    }


def write(checkpoint: Path, folder: Path, options: LcRecExport) -> list[str]:
    """See `Converter.write`."""
    config = read_config(checkpoint)
    entry = facts(checkpoint)["blocks"]["rows"][-1]
    tokens, codes = CodeTokens.load(checkpoint, entry)
    ours = config.pop("mmgrid", {})
    prompt = ours.get("lc_rec")
    notes = []
    if prompt is None and not options.own_prompts:
        raise LayoutError(
            f"{checkpoint}: was trained with the prompts of semid, and LC-Rec asks with others, so it would score "
            "differently there; to export it all the same, for code that asks as semid does: --option own_prompts=true"
        )
    if not tokens.names:
        raise LayoutError(f"{checkpoint}: an older checkpoint, whose code tokens have no names; train it again")
    with open_source(checkpoint) as tensors:
        copy_weights(tensors, causal_tensors(tensors, config, checkpoint), folder / WEIGHTS_FILE)
    write_json(folder / "config.json", config)
    plain = {name: f"<{name.rpartition(':')[2]}" for name in tokens.names}
    _save_tokenizer(_tokenizer(checkpoint), plain, folder)
    index = {
        str(row): [f"<{level_name(level)}_{code}>" for level, code in enumerate(own)]
        for row, own in enumerate(codes.codes.tolist())
        if own[0] != NO_CODE
    }
    name = tokens.domain or "items"
    (folder / f"{name}.index.json").write_text(json.dumps(index), encoding="utf-8")
    notes.append(f"The numbers in {name}.index.json are the rows of the prepared domain's items, from 0")
    if prompt is None:
        notes.append("LC-Rec's prompts are not those of this training: ask as docs/paradigms.md says")
    elif prompt["frame"] == FRAME:
        notes.append(f"Evaluate with --max_his_len {ours['history_length']} and the prompt {prompt['instruction']!r}")
    return notes


def _index_file(source: Path, options: LcRecImport) -> Path:
    if options.index:
        return Path(options.index).expanduser()
    found = sorted(source.glob("*.index.json"))
    if len(found) != 1:
        what = "no *.index.json" if not found else " and ".join(file.name for file in found)
        raise LayoutError(f"{source}: holds {what}; name the file of the items' tokens with --option index=FILE")
    return found[0]


def _index(file: Path) -> dict[str, list[tuple[str, int]]]:
    """Number of an item → level letter and code of each of its tokens."""
    index: dict[str, list[tuple[str, int]]] = {}
    for item, tokens in read_config(file.parent, file.name).items():
        found = [_TOKEN.fullmatch(token) for token in tokens] if isinstance(tokens, list) else [None]
        if not found or not all(found):
            raise LayoutError(f"{file}: item {item} has {tokens!r}; expected a list of tokens such as <a_12>")
        index[item] = [(match[1], int(match[2])) for match in found if match]
    levels = {len(tokens) for tokens in index.values()}
    if len(levels) != 1:
        raise LayoutError(f"{file}: items have {sorted(levels)} tokens; semid needs as many for each item")
    for item, tokens in index.items():
        if [level for level, _ in tokens] != [level_name(level) for level in range(len(tokens))]:
            raise LayoutError(
                f"{file}: item {item} has the levels {[level for level, _ in tokens]}; expected a, b, c, …"
            )
    return index


def _token_rows(
    index: Mapping[str, Any], vocabulary: Mapping[str, int], rows: int, source: Path
) -> tuple[int, list[str]]:
    """The first row of the code tokens, and their names by row."""
    used = {f"<{level}_{code}>" for tokens in index.values() for level, code in tokens}
    unknown = sorted(used - vocabulary.keys())
    if unknown:
        raise LayoutError(
            f"{source}: its tokenizer lacks {unknown[0]}, which the index has; take the index of its training"
        )
    by_row = {row: name for name, row in vocabulary.items() if _TOKEN.fullmatch(name)}
    first = min(by_row)
    if sorted(by_row) != list(range(first, rows)):
        raise LayoutError(
            f"{source}: the code tokens have the ids {first} to {max(by_row)}, and the vocabulary {rows} rows; semid "
            "needs them as the last rows, without a gap (a vocabulary padded after them is not supported)"
        )
    return first, [by_row[row] for row in range(first, rows)]


def _codes(index: Mapping[str, list[tuple[str, int]]], options: LcRecImport, file: Path) -> ItemCodes:
    """The codes in the order of the domain's items."""
    row_of = _rows_of(index, options, file)
    levels = len(next(iter(index.values())))
    per_level = 1 + max(code for tokens in index.values() for _, code in tokens)
    table = np.full((1 + max(row_of.values()), levels), NO_CODE, np.int32)
    if options.items:
        table = np.full((len(_catalogue(options.items)), levels), NO_CODE, np.int32)
    for item, tokens in index.items():
        table[row_of[item]] = [code for _, code in tokens]
    return ItemCodes(table, per_level)


def _rows_of(index: Mapping[str, Any], options: LcRecImport, file: Path) -> dict[str, int]:
    """Number of an item in the index → its row in the domain."""
    if not options.items:
        bad = next((item for item in index if not item.isdecimal()), None)
        if bad is not None:
            raise LayoutError(f"{file}: item {bad!r} is no number; name the prepared domain with --option items=FOLDER")
        return {item: int(item) for item in index}
    id_of = {item: item for item in index}
    if options.item_ids:
        lines = Path(options.item_ids).expanduser().read_text(encoding="utf-8").splitlines()
        pairs = [line.split("\t") for line in lines if line.strip()]
        if any(len(pair) != 2 for pair in pairs):
            raise LayoutError(f"{options.item_ids}: expected an item id, a tab and its number on each line")
        id_of = {number: item for item, number in pairs}
    known = {item: row for row, item in enumerate(_catalogue(options.items))}
    lost = [item for item in index if id_of.get(item) not in known]
    if lost:
        hint = "" if options.item_ids else "; if the index has numbers, name LC-Rec's item2id file (item_ids)"
        raise LayoutError(f"{options.items}: lacks {len(lost)} items of {file.name}, such as {lost[0]!r}{hint}")
    return {item: known[id_of[item]] for item in index}


def _catalogue(folder: str) -> list[str]:
    place = Path(folder).expanduser() / "items.parquet"
    if not place.is_file():
        raise LayoutError(f"{place}: no such file; items is the folder of a prepared domain, such as a corpus cell")
    return stored_items(place.parent, ["item_id"])["item_id"].cast(pl.String).to_list()


def _tokens(domain: str, digest: str, first: int, names: list[str], codes: ItemCodes) -> CodeTokens:
    renamed = tuple(f"<{domain}/{digest[:8]}:{name[1:]}" for name in names)
    whole = hashlib.sha256(json.dumps([digest, renamed]).encode()).hexdigest()
    shape = codes.levels, codes.codes_per_level
    return CodeTokens(f"{domain}/{digest[:8]}", first, shape, domain, renamed, whole)


def _tokenizer(folder: Path) -> Any:
    try:
        return load_tokenizer(folder)
    except BackboneError as error:
        raise LayoutError(f"{folder}: its tokenizer cannot be read ({error})") from None


def _save_tokenizer(tokenizer: Any, names: Mapping[str, str], folder: Path) -> None:
    """Save a tokenizer with other strings for some of its added tokens."""
    tokenizer.save_pretrained(str(folder))
    file = folder / "tokenizer.json"
    saved = read_config(folder, file.name)
    for token in saved["added_tokens"]:
        token["content"] = names.get(token["content"], token["content"])
    file.write_text(json.dumps(saved, ensure_ascii=False, indent=2), encoding="utf-8")
    about = folder / "tokenizer_config.json"
    written = read_config(folder, about.name)
    for token in written.get("added_tokens_decoder", {}).values():
        token["content"] = names.get(token["content"], token["content"])
    write_json(about, written)
