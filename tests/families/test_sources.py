"""What a family is made from: adapters, tied heads, vocabularies of single domains, chains, other families."""

import itertools
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from kits.arrays import bytes_of, values_of, write_model
from kits.tiny_llama import HIDDEN, loaded, tiny_llama
from mmgrid.families import build, compress, expand, state_dict
from mmgrid.merging import MergeError, merge
from mmgrid.merging.models.family.member import open_member

EMBEDDINGS, HEAD, Q = "model.embed_tokens.weight", "lm_head.weight", "model.layers.0.self_attn.q_proj.weight"


def numbers(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def sources(folder: Path, *names: str) -> list[dict[str, str]]:
    return [{"name": name, "path": str(folder / name)} for name in names]


def values_of_member(folder: Path) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in state_dict(folder).items()}


def entry(family: Path, domain: str = "a") -> dict[str, Any]:
    return json.loads((family / "family.json").read_text())["domains"][domain]


def kinds(family: Path, domain: str = "a") -> dict[str, str]:
    return {name: each["kind"] for name, each in entry(family, domain)["tensors"].items()}


def test_what_equals_the_shared_model_takes_no_bytes(tmp_path: Path) -> None:
    base = {"same": numbers(0, 40, 8), "other": numbers(1, 40, 8)}
    write_model(tmp_path / "base", base)
    write_model(tmp_path / "a", {**base, "other": base["other"] + 1})
    report = build(
        {"base": str(tmp_path / "base"), "sources": sources(tmp_path, "a"), "family": {"part": "delta"}}, tmp_path / "f"
    )
    assert kinds(tmp_path / "f") == {"same": "shared", "other": "delta"}
    assert report.domains["a"].parts[0].bytes == 40 * 8 // 2 + 40 * 2 + 16 * 4


def test_a_model_that_is_there_already_is_shared(tmp_path: Path) -> None:
    models = {name: {"x": numbers(number, 12, 8)} for number, name in enumerate(("base", "a", "b", "both"))}
    for name, model in models.items():
        write_model(tmp_path / name, model)
    recipe = {"base": str(tmp_path / "base"), "sources": sources(tmp_path, "a", "b")}
    family = {"shared": str(tmp_path / "both"), "part": {"kind": "mask", "rescale": "none"}}
    build(recipe | {"family": family}, tmp_path / "work/f", place=tmp_path / "kept/f")
    assert bytes_of(tmp_path / "work/f/shared") == bytes_of(tmp_path / "both")
    told = json.loads((tmp_path / "work/f/family.json").read_text())["recipe"]
    assert (told["family"]["shared"], told["sources"][0]["path"]) == ("../both", "../a")
    expand(tmp_path / "work/f", tmp_path / "out", domain="a")
    base, own, both = (models[name]["x"] for name in ("base", "a", "both"))
    agree = (own - base) * (both - base) > 0
    np.testing.assert_allclose(values_of(tmp_path / "out")["x"], np.where(agree, both, base), atol=1e-6)
    with pytest.raises(MergeError, match=r"cannot be shared beside what the method makes; leave one out"):
        build(recipe | {"method": "task_arithmetic", "family": family}, tmp_path / "g")


def test_parts_by_tower_and_by_rule(tmp_path: Path) -> None:
    names = ("item_tower.layers.0.w", "item_tower.norm", "user_tower.layers.0.w", "user_tower.layers.1.w", "head")
    for number, name in enumerate(("a", "b")):
        write_model(tmp_path / name, {tensor: numbers(number, 8, 8) for tensor in names})
    spec = {
        "part": {"kind": "delta", "bits": 8},
        "towers": {"item": "own", "user": "shared"},
        "rules": [{"tensors": "*.layers.1.*", "part": "exact"}],
    }
    report = build({"method": "linear", "sources": sources(tmp_path, "a", "b"), "family": spec}, tmp_path / "f")
    assert list(kinds(tmp_path / "f").values()) == ["delta", "own", "own", "shared", "exact"]
    errors = {part.kind: part.error for part in report.domains["a"].parts}
    assert (errors["own"], errors["exact"], errors["shared"]) == (0, 0, 1)
    assert 0 < errors["delta"] < 0.02
    expand(tmp_path / "f", tmp_path / "out", domain="a")
    found, shared = values_of(tmp_path / "out"), values_of(tmp_path / "f/shared")
    assert (found["user_tower.layers.0.w"] == shared["user_tower.layers.0.w"]).all()
    assert shared.keys() == {name for name in names if not name.startswith("item_")}, "which each domain has itself"
    size = (tmp_path / "f/shared/model.safetensors").stat().st_size
    assert report.shared_bytes == size
    assert [file.name for file in (tmp_path / "f/shared").iterdir() if "safetensors" in file.name] == [
        "model.safetensors"
    ]


def test_tensors_that_only_some_domains_have_and_other_shapes_are_stored_as_they_are(tmp_path: Path) -> None:
    base = {"w": numbers(0, 8, 8)}
    write_model(tmp_path / "base", base)
    more = {
        "w": base["w"] + numbers(1, 8, 8),
        "extra": numbers(2, 3, 5),
        "n": np.arange(4),
        "half": np.float64([[0.1]]),
    }
    write_model(tmp_path / "a", more)
    write_model(tmp_path / "b", {"w": numbers(3, 9, 8)})
    recipe = {"base": str(tmp_path / "base"), "sources": sources(tmp_path, "a", "b"), "family": {"part": "delta"}}
    report = build(recipe, tmp_path / "f")
    assert kinds(tmp_path / "f") == {"extra": "own", "half": "own", "n": "own", "w": "delta"}
    assert kinds(tmp_path / "f", "b") == {"w": "own"}
    assert [note.partition(":")[0] for note in report.notes] == ["a", "b"]
    expand(tmp_path / "f", tmp_path / "out", domain="b")
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "b")
    expand(tmp_path / "f", tmp_path / "more", domain="a")
    found, before = bytes_of(tmp_path / "more"), bytes_of(tmp_path / "a")
    assert found.keys() == before.keys()
    assert all(found[name] == before[name] for name in ("extra", "n", "half"))


@pytest.mark.parametrize("part", ["delta", "exact"])
def test_a_head_that_is_stored_beside_equal_embeddings_is_their_twin(part: str, tmp_path: Path) -> None:
    for number, name in enumerate(("base", "a")):
        tensors = loaded(tiny_llama(tmp_path / name, number, layers=1))
        tensors[HEAD] = tensors[EMBEDDINGS].clone()
        if name == "base":
            del tensors[HEAD]
        save_file(tensors, tmp_path / name / "model.safetensors", {"format": "pt"})
        config = json.loads((tmp_path / name / "config.json").read_text()) | {"tie_word_embeddings": True}
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    recipe = {"base": str(tmp_path / "base"), "sources": sources(tmp_path, "a"), "family": {"part": part}}
    build(recipe, tmp_path / "f")
    assert kinds(tmp_path / "f")[HEAD] == "twin"
    expand(tmp_path / "f", tmp_path / "out")
    found = values_of(tmp_path / "out")
    assert (found[HEAD] == found[EMBEDDINGS]).all()
    if part == "exact":
        assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "a")


def test_a_head_of_its_own_is_a_change_of_the_embeddings_that_it_was_tied_to(tmp_path: Path) -> None:
    for number, name in enumerate(("base", "a")):
        tensors = loaded(tiny_llama(tmp_path / name, 0, layers=1))
        head = tensors.pop(HEAD)
        if name == "a":
            tensors[HEAD] = tensors[EMBEDDINGS] + 0.01 * head
        save_file(tensors, tmp_path / name / "model.safetensors", {"format": "pt"})
        config = json.loads((tmp_path / name / "config.json").read_text()) | {"tie_word_embeddings": not number}
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    recipe = {"base": str(tmp_path / "base"), "sources": sources(tmp_path, "a"), "family": {"part": "exact"}}
    report = build(recipe, tmp_path / "f")
    assert entry(tmp_path / "f")["tensors"][HEAD]["like"] == EMBEDDINGS
    assert report.domains["a"].parts[0].bytes < 0.9 * 48 * HIDDEN * 4
    expand(tmp_path / "f", tmp_path / "out")
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "a")


def test_an_adapter_is_a_source_like_the_model_that_it_makes(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed")
    base = tiny_llama(tmp_path / "base", 0, layers=1, dtype=torch.bfloat16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(base)
        tuned = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
        tuned.save_pretrained(tmp_path / "a")
    (tmp_path / "a/mmgrid.json").write_text('{"domain": "books"}')
    recipe = {"base": str(base), "sources": [{"path": str(tmp_path / "a")}], "family": {"part": "exact"}}
    build(recipe, tmp_path / "f")
    assert set(json.loads((tmp_path / "f/family.json").read_text())["domains"]) == {"books"}, "as it declares"
    merge({"method": "linear", "sources": [{"path": str(tmp_path / "a"), "onto": str(base)}]}, tmp_path / "merged")
    expand(tmp_path / "f", tmp_path / "out")
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "merged")
    assert (tmp_path / "out/tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    assert (tmp_path / "out/mmgrid.json").read_text() == '{"domain": "books"}'


def test_a_chain_over_time_is_the_first_checkpoint_and_changes(tmp_path: Path) -> None:
    t0 = {"w": numbers(0, 64, 64), "norm": numbers(1, 64)}
    t1 = {name: value + 0.1 * numbers(2, *value.shape) for name, value in t0.items()}
    t2 = {name: value + 0.001 * numbers(3, *value.shape) for name, value in t1.items()}
    for name, model in {"t0": t0, "t1": t1, "t2": t2}.items():
        write_model(tmp_path / name, model)
        (tmp_path / name / "mmgrid.json").write_text(json.dumps({"domain": "books", "phase": name}))
    paths = [{"path": str(tmp_path / name)} for name in ("t0", "t1", "t2")]
    report = build({"sources": paths, "family": {"chain": True, "part": {"kind": "delta", "bits": 4}}}, tmp_path / "f")
    assert list(report.domains) == ["t0", "t1", "t2"], "named by the phases that they declare"
    assert bytes_of(tmp_path / "f/shared") == bytes_of(tmp_path / "t0")
    assert report.domains["t0"].bytes == 0
    for name in ("t0", "t1", "t2"):
        expand(tmp_path / "f", tmp_path / f"out-{name}", domain=name)
        assert (tmp_path / f"out-{name}/mmgrid.json").read_bytes() == (tmp_path / name / "mmgrid.json").read_bytes()
    assert bytes_of(tmp_path / "out-t0") == bytes_of(tmp_path / "t0")
    # t2 is a change of t1 as it is stored, so the error of t1 does not remain in t2.
    lost = [
        np.linalg.norm(values_of(tmp_path / f"out-{name}")["w"] - model["w"])
        for name, model in (("t1", t1), ("t2", t2))
    ]
    assert 0 < lost[1] < 0.2 * lost[0]


def test_a_checkpoint_is_stored_as_a_change_of_one_that_is_stored_so_itself(tmp_path: Path) -> None:
    models = {"base": {"w": numbers(0, 64, 64), "norm": numbers(1, 64)}}
    for number, (before, name) in enumerate(itertools.pairwise(("base", "t0", "t1", "t2"))):
        step = 0.1 ** (number + 1)
        models[name] = {
            tensor: value + step * numbers(number + 2, *value.shape) for tensor, value in models[before].items()
        }
    for name, model in models.items():
        write_model(tmp_path / name, model)
    below, lost = tmp_path / "base", []
    for name in ("t0", "t1", "t2"):
        compress(tmp_path / name, below, tmp_path / "store" / name, part={"kind": "delta", "bits": 4})
        below = tmp_path / "store" / name
        lost.append(np.linalg.norm(values_of_member(below)["w"] - models[name]["w"]))
    assert 0 < 10 * lost[2] < 5 * lost[1] < lost[0], "each corrects what the one before has lost"
    with open_member(below) as opened:
        changes = {file.resolve() for file in opened.files if file.name == "delta.safetensors"}
        assert changes == {(tmp_path / "store" / name / "delta.safetensors").resolve() for name in ("t0", "t1", "t2")}
        assert opened.digests().keys() == set(opened.files)
    expand(below, tmp_path / "out")
    found = values_of(tmp_path / "out")
    assert all((found[name] == value).all() for name, value in values_of_member(below).items())
    merge({"method": "linear", "sources": [{"path": str(below)}]}, tmp_path / "merged")
    assert bytes_of(tmp_path / "merged") == bytes_of(tmp_path / "out")
    assert not {"family.json", "expansion.json"} & {file.name for file in (tmp_path / "merged").iterdir()}


def test_what_is_stored_over_another_says_when_that_one_has_changed(tmp_path: Path) -> None:
    for number, name in enumerate(("base", "a", "b")):
        write_model(tmp_path / name, {"w": numbers(number, 64, 64)})
    compress(tmp_path / "a", tmp_path / "base", tmp_path / "small-a")
    compress(tmp_path / "b", tmp_path / "small-a", tmp_path / "small-b")
    content = bytearray((tmp_path / "small-a/delta.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "small-a/delta.safetensors").write_bytes(content)
    with pytest.raises(MergeError, match=r"small-a/delta.safetensors: is another file than when .*small-b was written"):
        open_member(tmp_path / "small-b")
    (tmp_path / "small-a/delta.safetensors").unlink()
    with pytest.raises(
        MergeError, match=r"small-b: is written as changes of the model in .*small-a, which lacks delta"
    ):
        open_member(tmp_path / "small-b")


def test_no_checkpoint_is_a_change_of_itself(tmp_path: Path) -> None:
    for number, name in enumerate(("base", "a", "b")):
        write_model(tmp_path / name, {"w": numbers(number, 16, 16)})
    compress(tmp_path / "a", tmp_path / "base", tmp_path / "small-a")
    compress(tmp_path / "b", tmp_path / "small-a", tmp_path / "small-b")
    file = tmp_path / "small-a/family.json"
    told = json.loads(file.read_text())
    file.write_text(json.dumps(told | {"shared": {"path": "../small-b", "files": {}}, "checksum": None}))
    with pytest.raises(MergeError, match="is written as changes of itself"):
        open_member(tmp_path / "small-b")


def test_an_adapter_lies_over_no_compressed_checkpoint(tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "base", 0, layers=1)
    for number, name in enumerate(("a", "b"), 1):
        tiny_llama(tmp_path / name, number, layers=1, near=base)
    compress(tmp_path / "a", base, tmp_path / "small")
    with pytest.raises(MergeError, match="an adapter needs a plain model under it; expand it first"):
        compress(tmp_path / "b", tmp_path / "small", tmp_path / "out", part="low_rank")


def test_a_chain_takes_no_method_and_no_masks(tmp_path: Path) -> None:
    write_model(tmp_path / "a", {"w": numbers(0, 8, 8)})
    for more, problem in (({"method": "linear"}, "neither method nor base"), ({}, "mask")):
        recipe = {"sources": sources(tmp_path, "a"), "family": {"chain": True, "part": "mask"}, **more}
        with pytest.raises(MergeError, match=problem):
            build(recipe, tmp_path / "f")


def _with_rows(folder: Path, name: str, rows: int, seed: int) -> Path:
    """A model whose vocabulary is that of the base (48 rows), and a block of its own."""
    made = tiny_llama(folder / name, seed, layers=1, near=folder / "base")
    tensors = loaded(made)
    for tensor in (EMBEDDINGS, HEAD):
        tensors[tensor] = torch.cat([tensors[tensor], torch.from_numpy(numbers(seed + 9, rows, HIDDEN))])
    save_file(tensors, made / "model.safetensors", {"format": "pt"})
    block = {"name": f"{name}/1", "start": 48, "stop": 48 + rows, "domain": name, "files": ["codes.npz"]}
    table = {"tensors": [EMBEDDINGS, HEAD], "rows": [{"name": "backbone", "start": 0, "stop": 48}, block]}
    (made / "mmgrid.json").write_text(json.dumps({"domain": name, "blocks": table}))
    (made / "codes.npz").write_bytes(name.encode() * 10)
    return made


@pytest.mark.parametrize(
    ("part", "shared"),
    [
        *itertools.product(
            ["exact", "own", {"kind": "delta", "bits": 8}, {"kind": "low_rank", "rank": 3}], ["merge", "base"]
        ),
        ("mask", "merge"),  # of the base, there is no change to mask
    ],
)
def test_token_rows_of_a_domain_are_in_the_shared_model_or_with_the_domain(
    shared: str, part: Any, tmp_path: Path
) -> None:
    base = tiny_llama(tmp_path / "base", 0, layers=1)
    for name, rows in (("a", 6), ("b", 9)):
        _with_rows(tmp_path, name, rows, rows)
    recipe: dict[str, Any] = {"base": str(base), "sources": sources(tmp_path, "a", "b"), "family": {"part": part}}
    if shared == "merge":
        recipe |= {"method": "task_arithmetic", "scale": 0.5}
    build(recipe, tmp_path / "f")
    for name, rows in (("a", 6), ("b", 9)):
        expand(tmp_path / "f", tmp_path / f"out-{name}", domain=name)
        found, before = values_of(tmp_path / f"out-{name}"), values_of(tmp_path / name)
        assert found[EMBEDDINGS].shape == (48 + rows, HIDDEN)
        for tensor in (EMBEDDINGS, HEAD):
            assert (found[tensor][48:] == before[tensor][48:]).all(), "rows that mean something only in this domain"
            if part == {"kind": "delta", "bits": 8}:
                np.testing.assert_allclose(found[tensor][:48], before[tensor][:48], atol=0.02)
        if part in ("exact", "own"):
            assert bytes_of(tmp_path / f"out-{name}") == bytes_of(tmp_path / name)
        for file in ("mmgrid.json", "codes.npz", "config.json", "tokenizer.json"):
            assert (tmp_path / f"out-{name}" / file).read_bytes() == (tmp_path / name / file).read_bytes()
        if part != "own":
            how = [rows["how"] for rows in entry(tmp_path / "f", name)["tokens"]["rows"]]
            assert how == ["part", "shared" if shared == "merge" else "own"]


@pytest.mark.parametrize("of", ["at", "base"])
def test_token_rows_beyond_those_of_the_model_below_are_refused(of: str, tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "base", 0, layers=1)
    for name, rows in (("a", 6), ("b", 9)):
        _with_rows(tmp_path, name, rows, rows)
    recipe = {"base": str(base), "method": "emr", "sources": sources(tmp_path, "a", "b"), "family": {"part": "mask"}}
    build(recipe, tmp_path / "f")
    file = tmp_path / "f/family.json"
    for row in (200, 10**18):
        told = json.loads(file.read_text()) | {"checksum": None}
        told["domains"]["a"]["tokens"]["rows"][0][of] = row
        file.write_text(json.dumps(told))
        with pytest.raises(
            MergeError, match=r"(embed_tokens|lm_head).weight: is written as a change of .* is it the right"
        ):
            expand(tmp_path / "f", tmp_path / "out", domain="a")


def test_a_domain_is_a_source_of_merges_by_the_folder_of_its_part(tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "base", 0, layers=1)
    for number, name in enumerate(("a", "b"), 1):
        tiny_llama(tmp_path / name, number, layers=1, near=base)
    build(
        {"method": "linear", "sources": sources(tmp_path, "a", "b"), "family": {"part": {"kind": "delta", "bits": 3}}},
        tmp_path / "f",
    )
    expand(tmp_path / "f", tmp_path / "out", domain="a")
    for path, out in ((tmp_path / "f/parts/a", "one"), (tmp_path / "out", "other")):
        sources_ = [{"name": "x", "path": str(path)}, {"name": "b", "path": str(tmp_path / "b")}]
        merge({"method": "linear", "sources": sources_}, tmp_path / out)
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "other")
    with pytest.raises(MergeError, match=r"is a family of a, b; say which domain"):
        merge({"method": "linear", "sources": [{"path": str(tmp_path / "f")}]}, tmp_path / "two")
    build(
        {
            "base": str(base),
            "sources": [{"name": "x", "path": str(tmp_path / "f/parts/a")}],
            "family": {"part": "exact"},
        },
        tmp_path / "again",
    )
    expand(tmp_path / "again", tmp_path / "once more")
    assert bytes_of(tmp_path / "once more") == bytes_of(tmp_path / "out")


@pytest.mark.parametrize("energy", [None, 0.9])
def test_peft_loads_a_part_of_low_rank_over_the_shared_model(energy: float | None, tmp_path: Path) -> None:
    """With the logits of the expanded checkpoint: norms and token rows are those of the shared model in both."""
    peft = pytest.importorskip("peft", reason="peft is not installed")
    tiny_llama(tmp_path / "base", 0, layers=2)
    for name, seed in (("a", 1), ("b", 2)):
        tiny_llama(tmp_path / name, seed, layers=2, near=tmp_path / "base")
    part = {"kind": "low_rank", "rank": 3 if energy is None else 16, "energy": energy}
    recipe = {"method": "linear", "sources": sources(tmp_path, "a", "b"), "family": {"part": part}}
    report = build(recipe, tmp_path / "f")
    assert set(kinds(tmp_path / "f").values()) == {"low_rank", "shared"}
    assert kinds(tmp_path / "f")[EMBEDDINGS] == "shared"
    assert 0.05 < report.domains["a"].parts[0].error < 0.95
    tokens = torch.arange(12)[None]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        from transformers import AutoModelForCausalLM

        for name in ("a", "b"):
            expand(tmp_path / "f", tmp_path / f"out-{name}", domain=name)
            whole = AutoModelForCausalLM.from_pretrained(tmp_path / f"out-{name}").eval()
            under = AutoModelForCausalLM.from_pretrained(tmp_path / "f/shared")
            adapted = peft.PeftModel.from_pretrained(under, tmp_path / f"f/parts/{name}/low_rank").eval()
            torch.testing.assert_close(adapted(tokens).logits, whole(tokens).logits, atol=1e-4, rtol=1e-4)
    merge({"method": "linear", "sources": [{"path": str(tmp_path / "f/parts/a/low_rank")}]}, tmp_path / "merged")
    assert bytes_of(tmp_path / "merged") == bytes_of(tmp_path / "out-a"), "the adapter names its model by a path"


def test_equal_files_of_domains_are_stored_once(tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "base", 0, layers=1)
    for number, name in enumerate(("a", "b", "c"), 1):
        tiny_llama(tmp_path / name, number, layers=1, near=base)
        (tmp_path / name / "vocab.txt").write_text("the same in two" if name != "c" else "another")
    (tmp_path / "a/record.json").write_text("{}")
    (tmp_path / "a/.hidden").write_text("")
    build({"method": "linear", "sources": sources(tmp_path, "a", "b", "c"), "family": {"part": "own"}}, tmp_path / "f")
    held = sorted(file.relative_to(tmp_path / "f").as_posix() for file in (tmp_path / "f").rglob("vocab.txt"))
    assert held == ["parts/c/vocab.txt", "shared/vocab.txt"]
    assert len(list((tmp_path / "f").rglob("tokenizer.json"))) == 1
    for name in ("a", "b", "c"):
        expand(tmp_path / "f", tmp_path / f"out-{name}", domain=name)
        files = {file.name for file in (tmp_path / f"out-{name}").iterdir()}
        assert files == {"config.json", "expansion.json", "model.safetensors", "tokenizer.json", "vocab.txt"}
        for file in files - {"expansion.json"}:
            assert (tmp_path / f"out-{name}" / file).read_bytes() == (tmp_path / name / file).read_bytes()


def test_emr_keeps_more_of_each_domain_than_the_shared_model(tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "base", 0, layers=1)
    for number, name in enumerate(("a", "b", "c"), 1):
        tiny_llama(tmp_path / name, number, layers=1, near=base)
    recipe = {
        "base": str(base),
        "method": "emr",
        "sources": sources(tmp_path, "a", "b", "c"),
        "family": {"part": "mask"},
    }
    report = build(recipe, tmp_path / "f")
    expand(tmp_path / "f", tmp_path / "out", domain="a")
    own, found, below = (values_of(folder)[Q] for folder in (tmp_path / "a", tmp_path / "out", base))
    shared = values_of(tmp_path / "f/shared")[Q]
    assert np.linalg.norm(found - own) < np.linalg.norm(shared - own)
    kept = {part.kind: part.error for part in report.domains["a"].parts}
    assert 0.3 < kept["mask"] < 0.8
    change = found - below
    assert ((change == 0) | (np.sign(change) == np.sign(own - below))).all(), (
        "only changes of the domain's sign are left"
    )
