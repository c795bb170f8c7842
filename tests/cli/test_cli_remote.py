"""The commands `mmgrid store`: a grid's cells travel, and a run elsewhere finds them built."""

from pathlib import Path

from kits.tiny_grid import Built, mmgrid

CHECKPOINT = "checkpoint/sasrec/garden/phase2"


def test_a_grid_that_was_pushed_is_built_where_it_is_pulled(built: Built, tmp_path: Path) -> None:
    url, n = f"file://{tmp_path}/lab", len(built.cells)
    sent = mmgrid("store", "push", built.file, url, "--store", built.root)
    assert sent.code == 0
    assert sent.out.startswith(f"{n} cells, ")
    assert sent.out.endswith(f", sent to {url}\n")
    again = mmgrid("store", "push", built.root, url, "--json").json
    assert (again["done"], len(again["present"]), again["problems"]) == ([], n, {})
    deep = mmgrid("store", "verify", url, "--deep")
    assert (deep.code, deep.out.partition(": ")[2]) == (0, "every file is as it was recorded\n")
    fetched = mmgrid("store", "pull", built.file, url, "--store", tmp_path / "new")
    assert fetched.out.startswith(f"{n} cells, ")
    assert mmgrid("verify", tmp_path / "new", "--deep").code == 0
    states = {cell["state"] for cell in mmgrid("plan", built.file, "--store", tmp_path / "new", "--json").json}
    assert states == {"built"}
    only = mmgrid("store", "pull", tmp_path / "one", url, "--only", CHECKPOINT, "--json").json
    assert only["done"] == [CHECKPOINT]

    weights = next((tmp_path / "lab" / CHECKPOINT).rglob("model.safetensors"))
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    (tmp_path / "lab" / "notes.txt").write_text("mine")
    found = mmgrid("store", "verify", url, "--deep")
    assert found.code == 1
    assert "model.safetensors: its content differs from the record\n" in found.out
    assert "foreign notes.txt: " in found.out
    assert f"1 of {n} cells are damaged; `mmgrid store push --deep` from a store that has them" in found.out
    refused = mmgrid("store", "pull", tmp_path / "two", url, "--only", CHECKPOINT)
    assert refused.code == 1
    assert f"failed {CHECKPOINT}/" in refused.out
    mended = mmgrid("store", "push", CHECKPOINT, url, "--deep", "--store", built.root, "--json").json
    assert mended["done"] == [CHECKPOINT]


def test_a_wrong_address_is_one_line(built: Built) -> None:
    for command in (("push", built.root, "runs"), ("pull", built.root, "s4://x/y"), ("verify", "s3://")):
        answer = mmgrid("store", *command)
        assert (answer.code, answer.out, answer.err.count("\n")) == (1, "", 1)
