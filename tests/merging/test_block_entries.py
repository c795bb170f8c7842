"""Blocks with a domain, tokens and files: a merge of such models is a whole model again."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, models
from transformers import PreTrainedTokenizerFast

from mmgrid.merging import Blocks, Change, MergeError, merge, merge_state_dicts, sweep
from mmgrid.merging.models.token_blocks import BlockTable
from mmgrid.merging.plan.block_layout import lay_out
from mmgrid.merging.verify import verify

EMBED = "model.embed_tokens.weight"
WIDTH, WORDS, BACKBONE = 4, 6, 8  # the backbone has two rows more than its tokenizer has words


def tokens_of(name: str, size: int) -> list[str]:
    return [f"<{name}_{row}>" for row in range(size)]


def entry(name: str, size: int, /, **facts: Any) -> dict[str, Any]:
    """A block with tokens and one file, without its rows."""
    return {
        "name": name,
        "size": size,
        "domain": name,
        "digest": f"digest of {name}",
        "tokens": tokens_of(name, size),
        "files": [f"codes-{name}.safetensors"],
        **facts,
    }


def write_tokenizer(folder: Path, *blocks: dict[str, Any], fillers: bool = True) -> None:
    tokenizer = Tokenizer(models.WordLevel({f"word{row}": row for row in range(WORDS)}, unk_token="word0"))
    names = [f"<unused_{row}>" for row in range(WORDS, BACKBONE)] if fillers else []
    names += [token for block in blocks for token in block.get("tokens", [])]
    tokenizer.add_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    tokenizer.save(str(folder / "tokenizer.json"))


def write(folder: Path, seed: int, *blocks: dict[str, Any], tokenizer: bool = True, **facts: Any) -> torch.Tensor:
    """A model with these blocks behind its backbone; returns its token rows."""
    draw = torch.Generator().manual_seed(seed)
    rows, end = [{"name": "backbone", "start": 0, "stop": BACKBONE}], BACKBONE
    for block in blocks:
        own = {key: value for key, value in block.items() if key != "size"}
        rows.append({**own, "start": end, "stop": end + block["size"]})
        end += block["size"]
    table = torch.randn((end, WIDTH), generator=draw)
    folder.mkdir(parents=True)
    save_file({EMBED: table, "norm": torch.ones(3)}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"vocab_size": end}))
    (folder / "mmgrid.json").write_text(json.dumps({**facts, "blocks": {"tensors": [EMBED], "rows": rows}}))
    for block in blocks:
        for file in block.get("files", []):
            (folder / file).write_bytes(f"{file} of {folder.name}".encode())
    if tokenizer:
        write_tokenizer(folder, *blocks)
    return table


def recipe_for(root: Path, *names: str, **changes: Any) -> dict[str, Any]:
    return {"method": "linear", "sources": [{"name": name, "path": str(root / name)} for name in names], **changes}


def rows_in(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "mmgrid.json").read_text())["blocks"]["rows"]


def check_tokens(folder: Path) -> None:
    """Each token of a block has its row as id, in a tokenizer loaded by transformers."""
    loaded = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    rows = rows_in(folder)
    for row in rows:
        for number, token in enumerate(row.get("tokens", []), row["start"]):
            assert loaded.convert_tokens_to_ids(token) == number, token
            assert loaded(f"word1 {token}", add_special_tokens=False).input_ids[-1] == number
    assert len(loaded) == rows[-1]["stop"]


@pytest.fixture
def two(tmp_path: Path) -> Path:
    write(tmp_path / "garden", 1, entry("garden", 3), paradigm="semid", domain="garden")
    write(tmp_path / "toys", 2, entry("toys", 2), paradigm="semid", domain="toys")
    return tmp_path


def test_entries_files_and_tokens_of_all_blocks_are_in_the_result(two: Path) -> None:
    merge(recipe_for(two, "garden", "toys"), two / "out")
    rows = rows_in(two / "out")
    assert [(row["name"], row["start"], row["stop"]) for row in rows] == [
        ("backbone", 0, 8),
        ("garden", 8, 11),
        ("toys", 11, 13),
    ]
    assert {key: rows[2][key] for key in ("domain", "digest", "tokens", "files", "from")} == {
        "domain": "toys",
        "digest": "digest of toys",
        "tokens": ["<toys_0>", "<toys_1>"],
        "files": ["codes-toys.safetensors"],
        "from": ["toys"],
    }
    for name in ("garden", "toys"):
        file = f"codes-{name}.safetensors"
        assert (two / "out" / file).read_bytes() == (two / name / file).read_bytes()
    check_tokens(two / "out")
    sources = json.loads((two / "out" / "mmgrid.json").read_text())["sources"]
    assert set(sources["toys"]["files"]) == {"model.safetensors", "codes-toys.safetensors"}
    assert verify(two / "out").equal


def test_the_result_can_be_merged_again(two: Path) -> None:
    merge(recipe_for(two, "garden", "toys"), two / "both")
    write(two / "books", 3, entry("books", 4))
    merge(recipe_for(two, "books", "both"), two / "out")
    assert [row["name"] for row in rows_in(two / "out")] == ["backbone", "books", "garden", "toys"]
    check_tokens(two / "out")


def test_dropped_blocks_leave_neither_files_nor_tokens(two: Path) -> None:
    merge(recipe_for(two, "garden", "toys", blocks={"garden": "drop"}), two / "out")
    assert [row["name"] for row in rows_in(two / "out")] == ["backbone", "toys"]
    assert not (two / "out" / "codes-garden.safetensors").exists()
    assert "<garden_0>" not in (two / "out" / "tokenizer.json").read_text()
    check_tokens(two / "out")
    merge(recipe_for(two, "garden", "toys", blocks={"garden": "drop", "toys": "drop"}), two / "none")
    assert sorted(path.name for path in (two / "none").glob("codes*")) == []
    check_tokens(two / "none")


def test_json_files_of_dropped_blocks_are_not_copied_with_the_config(tmp_path: Path) -> None:
    write(tmp_path / "garden", 1, entry("garden", 3, files=["codes-garden.json"]))
    write(tmp_path / "toys", 2, entry("toys", 2))
    merge(recipe_for(tmp_path, "garden", "toys", blocks={"garden": "drop"}), tmp_path / "out")
    assert not (tmp_path / "out" / "codes-garden.json").exists()


def test_blocks_of_two_domains_under_one_name_are_all_kept(tmp_path: Path) -> None:
    tables = {}
    for seed, name in enumerate(("garden", "toys", "books"), 1):
        block = entry(name, 2 + seed, name="codes")
        tables[name] = write(tmp_path / name, seed, block)
    merge(recipe_for(tmp_path, "toys", "garden", "books"), tmp_path / "out")
    rows = rows_in(tmp_path / "out")
    assert [(row["name"], row.get("domain")) for row in rows] == [
        ("backbone", None),
        ("codes", "toys"),
        ("codes@books", "books"),
        ("codes@garden", "garden"),
    ]
    merged = load_file(tmp_path / "out" / "model.safetensors")[EMBED]
    for row in rows[1:]:
        assert merged[row["start"] : row["stop"]].equal(tables[row["domain"]][BACKBONE:])
        assert (tmp_path / "out" / f"codes-{row['domain']}.safetensors").is_file()
    check_tokens(tmp_path / "out")


def test_one_domain_under_one_name_is_kept_from_the_first(tmp_path: Path) -> None:
    first = write(tmp_path / "old", 1, entry("garden", 3))
    write(tmp_path / "new", 2, entry("garden", 3))
    merge(recipe_for(tmp_path, "old", "new"), tmp_path / "out")
    assert [row["name"] for row in rows_in(tmp_path / "out")] == ["backbone", "garden"]
    merged = load_file(tmp_path / "out" / "model.safetensors")[EMBED]
    assert merged[BACKBONE:].equal(first[BACKBONE:])
    assert (tmp_path / "out" / "codes-garden.safetensors").read_bytes().endswith(b"of old")


def test_keep_all_by_rule_and_tokens_that_coincide(tmp_path: Path) -> None:
    write(tmp_path / "old", 1, entry("garden", 3))
    write(tmp_path / "new", 2, entry("garden", 3, files=[], tokens=tokens_of("other", 3)))
    keep_all = {"garden": "keep_all"}
    merge(recipe_for(tmp_path, "old", "new", blocks=keep_all), tmp_path / "out")
    assert [row["name"] for row in rows_in(tmp_path / "out")] == ["backbone", "garden", "garden@new"]
    check_tokens(tmp_path / "out")
    write(tmp_path / "newest", 3, entry("garden", 3))
    with pytest.raises(MergeError, match=r"'garden' and 'garden@newest' .* both have the token '<garden_0>'"):
        merge(recipe_for(tmp_path, "old", "newest", blocks=keep_all), tmp_path / "none")


def test_keep_all_of_some_sources(tmp_path: Path) -> None:
    write(tmp_path / "old", 1, entry("garden", 3))
    new = write(tmp_path / "new", 2, entry("garden", 3))
    write(tmp_path / "other", 3, entry("kitchen", 2, files=[]))
    blocks = {"backbone": "merge", "*": {"keep_all": ["new", "other"]}}
    merge(recipe_for(tmp_path, "old", "new", "other", blocks=blocks), tmp_path / "out")
    assert [row["name"] for row in rows_in(tmp_path / "out")] == ["backbone", "garden", "kitchen"]
    merged = load_file(tmp_path / "out" / "model.safetensors")[EMBED]
    assert merged[BACKBONE : BACKBONE + 3].equal(new[BACKBONE:])
    with pytest.raises(MergeError, match="blocks: keep_all names newest; the sources are new, old"):
        merge(recipe_for(tmp_path, "old", "new", blocks={"*": {"keep_all": ["newest"]}}), tmp_path / "none")
    blocks = {"backbone": "merge", "*": {"keep_all": ["new"]}}
    report = merge(recipe_for(tmp_path, "old", "new", "other", blocks=blocks), tmp_path / "fewer")
    assert [row["name"] for row in rows_in(tmp_path / "fewer")] == ["backbone", "garden"]
    assert report.notes == ("block 'kitchen': is left out; it is in other, and keep_all names new",)
    write(tmp_path / "plain", 4)
    (tmp_path / "plain" / "mmgrid.json").unlink()
    blocks = {"backbone": "merge", "*": {"keep_all": ["new", "plain"]}}  # a source that declares no blocks is a source
    assert merge(recipe_for(tmp_path, "new", "plain", blocks=blocks), tmp_path / "both").notes == ()


def test_two_blocks_of_the_result_with_one_name(tmp_path: Path) -> None:
    write(tmp_path / "a", 1, entry("codes", 3), entry("codes@b", 2))
    write(tmp_path / "b", 2, entry("codes", 3, domain="b", tokens=tokens_of("b", 3), files=[]))
    with pytest.raises(MergeError, match="two blocks of the result would be called 'codes@b'"):
        merge(recipe_for(tmp_path, "a", "b"), tmp_path / "out")


def test_in_memory_keep_all_is_as_on_disk(tmp_path: Path) -> None:
    tables = {name: write(tmp_path / name, seed, entry(name, 3, name="codes")) for seed, name in enumerate("ab")}
    merge(recipe_for(tmp_path, "b", "a"), tmp_path / "out")
    found = merge_state_dicts(
        "linear",
        {name: {EMBED: table, "norm": torch.ones(3)} for name, table in tables.items()},
        blocks=Blocks({name: BlockTable.read(tmp_path / name) for name in "ab"}, "b"),  # pyright: ignore
    )
    expected = load_file(tmp_path / "out" / "model.safetensors")
    assert found[EMBED].shape == (BACKBONE + 6, WIDTH)
    assert all(found[name].equal(expected[name]) for name in expected)


# ---- the tokenizer


def test_fillers_of_the_first_source_close_the_gap_in_the_base_tokenizer(two: Path) -> None:
    write(two / "base", 0)
    write_tokenizer(two / "base", fillers=False)
    recipe = recipe_for(two, "garden", "toys", method="task_arithmetic", base=str(two / "base"), companions="base")
    merge(recipe, two / "out")
    check_tokens(two / "out")
    loaded = json.loads((two / "out" / "tokenizer.json").read_text())["added_tokens"]
    assert [token["content"] for token in loaded[:2]] == ["<unused_6>", "<unused_7>"]


def test_a_gap_that_nothing_fills_is_an_error(tmp_path: Path) -> None:
    for seed, name in enumerate(("garden", "toys")):
        write(tmp_path / name, seed, entry(name, 3))
        write_tokenizer(tmp_path / name, fillers=False)
    with pytest.raises(MergeError, match=r"tokenizer\.json: no token has the id 6, so the tokens behind it"):
        merge(recipe_for(tmp_path, "garden", "toys"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_tokens_keep_the_flags_that_their_source_gives_them(two: Path) -> None:
    file = two / "toys" / "tokenizer.json"
    value = json.loads(file.read_text())
    for token in value["added_tokens"]:
        token |= {"special": False, "lstrip": True} if "toys" in token["content"] else {}
    file.write_text(json.dumps(value))
    merge(recipe_for(two, "garden", "toys"), two / "out")
    added = json.loads((two / "out" / "tokenizer.json").read_text())["added_tokens"]
    flags = {token["content"]: (token["special"], token["lstrip"]) for token in added}
    assert flags["<toys_1>"] == (False, True)
    assert flags["<garden_1>"] == (True, False)


def test_a_token_that_is_also_a_word_of_the_vocabulary(two: Path) -> None:
    write(two / "words", 3, entry("words", 2, tokens=["<x>", "word3"]), tokenizer=False)
    with pytest.raises(MergeError, match=r"token 'word3' of block 'words' is also in the vocabulary"):
        merge(recipe_for(two, "garden", "words"), two / "out")


def test_a_tokenizer_that_already_fits_is_copied_byte_for_byte(two: Path) -> None:
    merge(recipe_for(two, "garden"), two / "out")
    assert (two / "out" / "tokenizer.json").read_bytes() == (two / "garden" / "tokenizer.json").read_bytes()


def test_without_the_backbone_first_added_tokens_cannot_be_numbered(two: Path) -> None:
    with pytest.raises(MergeError, match=r"the first block of the result is 'garden'; .* keep or merge it"):
        merge(recipe_for(two, "garden", "toys", blocks={"backbone": "drop"}), two / "out")


def test_models_without_a_tokenizer(tmp_path: Path) -> None:
    for seed, name in enumerate(("garden", "toys")):
        write(tmp_path / name, seed, entry(name, 3), tokenizer=False)
    merge(recipe_for(tmp_path, "garden", "toys"), tmp_path / "out")
    assert not (tmp_path / "out" / "tokenizer.json").exists()


# ---- the files


def test_verify_compares_the_files_of_blocks(two: Path) -> None:
    merge(recipe_for(two, "garden", "toys"), two / "out")
    (two / "out" / "codes-toys.safetensors").write_bytes(b"other")
    (two / "out" / "codes-garden.safetensors").unlink()
    result = verify(two / "out")
    source = two / "toys" / "codes-toys.safetensors"
    assert result.files == {
        "codes-garden.safetensors": "is missing",
        "codes-toys.safetensors": f"differs from {source}",
    }
    assert not result.equal
    source.write_bytes(b"other")
    result = verify(two / "out")
    assert result.changed == {"toys": ("codes-toys.safetensors",)}
    assert "codes-toys.safetensors" not in result.files


def test_a_sweep_gives_every_output_files_and_tokens(two: Path) -> None:
    outs = {two / f"out{share}": Change(weights={"garden": share, "toys": 1 - share}) for share in (0.25, 0.5)}
    sweep(recipe_for(two, "garden", "toys"), outs)
    for out in outs:
        check_tokens(out)
        assert len(list(out.glob("codes-*"))) == 2


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (["nowhere.safetensors"], r"block 'garden' of source 'garden': its file .*nowhere\.safetensors is missing"),
        (["model.safetensors"], "model.safetensors cannot be a file of a block; every model has one"),
        (["../garden/config.json"], "is not the name of a file in the folder"),
        ([".."], "is not the name of a file in the folder"),
    ],
)
def test_files_that_cannot_be_copied(two: Path, files: list[str], says: str) -> None:
    record = two / "garden" / "mmgrid.json"
    value = json.loads(record.read_text())
    value["blocks"]["rows"][1]["files"] = files
    record.write_text(json.dumps(value))
    with pytest.raises(MergeError, match=says):
        merge(recipe_for(two, "toys", "garden"), two / "out")
    assert not (two / "out").exists()


def test_files_of_one_name_in_two_sources_are_renamed_by_domain(tmp_path: Path) -> None:
    for seed, name in enumerate(("garden", "toys")):
        write(tmp_path / name, seed, entry(name, 2, files=["codes.safetensors"]))
    merge(recipe_for(tmp_path, "garden", "toys"), tmp_path / "out")
    for row, name in zip(rows_in(tmp_path / "out")[1:], ("garden", "toys"), strict=True):
        assert row["files"] == [f"codes-{name}.safetensors"]
        assert (tmp_path / "out" / row["files"][0]).read_bytes() == (tmp_path / name / "codes.safetensors").read_bytes()
    assert not (tmp_path / "out" / "codes.safetensors").exists()
    assert verify(tmp_path / "out").equal


def test_files_of_one_name_and_one_domain_are_an_error(tmp_path: Path) -> None:
    for seed, name in enumerate(("old", "new")):
        write(tmp_path / name, seed, entry("garden", 2, tokens=tokens_of(name, 2)))
    with pytest.raises(MergeError, match="have the same name and differ; rename one of them"):
        merge(recipe_for(tmp_path, "old", "new", blocks={"garden": "keep_all"}), tmp_path / "out")


def test_a_file_that_changes_during_the_merge(two: Path) -> None:
    def change(done: int, total: int, name: str) -> None:
        (two / "toys" / "codes-toys.safetensors").write_bytes(b"longer than it was, by somebody else")

    with pytest.raises(MergeError, match=r"codes-toys\.safetensors: was changed while it was read"):
        merge(recipe_for(two, "garden", "toys"), two / "out", progress=change)
    assert not (two / "out").exists()


# ---- what sources declare


def test_the_record_carries_what_sources_declare(two: Path) -> None:
    merge(recipe_for(two, "garden", "toys"), two / "out")
    record = json.loads((two / "out" / "mmgrid.json").read_text())
    assert record["made_from"] == {
        "garden": {"paradigm": "semid", "domain": "garden"},
        "toys": {"paradigm": "semid", "domain": "toys"},
    }
    merge(recipe_for(two, "out"), two / "again")
    again = json.loads((two / "again" / "mmgrid.json").read_text())["made_from"]["out"]
    assert again == {key: value for key, value in record.items() if key != "blocks"}


def test_verify_reads_records_without_made_from(two: Path) -> None:
    merge(recipe_for(two, "garden", "toys"), two / "out")
    record = json.loads((two / "out" / "mmgrid.json").read_text())
    del record["made_from"]
    (two / "out" / "mmgrid.json").write_text(json.dumps(record))
    assert verify(two / "out").equal


def test_models_that_declare_nothing_leave_no_key(two: Path) -> None:
    for name in ("garden", "toys"):
        (two / name / "mmgrid.json").unlink()
        save_file({"norm": torch.ones(3)}, two / name / "model.safetensors")
    merge(recipe_for(two, "garden", "toys"), two / "out")
    assert "made_from" not in json.loads((two / "out" / "mmgrid.json").read_text())


# ---- malformed entries


@pytest.mark.parametrize(
    "facts",
    [
        {"tokens": ["one"]},
        {"tokens": "ab"},
        {"tokens": [1, 2]},
        {"files": "codes"},
        {"files": [None]},
        {"domain": 3},
        {"digest": []},
    ],
)
def test_malformed_entries_are_errors(facts: dict[str, Any]) -> None:
    rows = [{"name": "backbone", "start": 0, "stop": 2, **facts}]
    with pytest.raises(MergeError, match="here: blocks need tensors, and rows"):
        BlockTable.of({"tensors": ["e"], "rows": rows}, "here")


@given(
    sizes=st.lists(st.integers(1, 4), min_size=2, max_size=2),
    domains=st.lists(st.sampled_from(["x", "y", None]), min_size=2, max_size=2),
    rule=st.sampled_from([None, "keep", "keep_all", "drop", "append"]),
)
def test_entries_of_any_kind_are_laid_out_once_each(
    sizes: list[int], domains: list[str | None], rule: str | None
) -> None:
    tables = {}
    for source, size, domain in zip("ab", sizes, domains, strict=True):
        block: dict[str, Any] = {"name": "codes", "start": 2, "stop": 2 + size, "tokens": tokens_of(source, size)}
        block |= {} if domain is None else {"domain": domain}
        rows = [{"name": "backbone", "start": 0, "stop": 2}, block]
        tables[source] = BlockTable.of({"tensors": ["e"], "rows": rows}, source)
        assert tables[source].as_json()["rows"] == rows
    blocks = lay_out(tables, None, "b", {} if rule is None else {"codes": rule})  # pyright: ignore
    both = rule == "keep_all" or (rule is None and None not in domains and len(set(domains)) == 2)
    expected = [] if rule == "drop" else ["codes", "codes@a"] if both else ["codes"]
    assert [laid.block.name for laid in blocks] == ["backbone", *expected]
    assert [laid.owner for laid in blocks[1:]] == ["b", "a"][: len(expected)]
    for laid in blocks[1:]:
        assert laid.block.tokens == tables[laid.owner].blocks[1].tokens
        assert laid.block.size == tables[laid.owner].blocks[1].size
