"""Grids of the generative paradigms, text and semid: studies, merges, token rows and commands."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from kits.snippets import run_snippet
from kits.tiny_grid import SPOKEN, Built, cells_of, fingerprints, mmgrid, named, planned, write_grid
from mmgrid.grid.builders.merge import merged_weights, neutral_base, recipe_of_folders
from mmgrid.grid.builders.models import line_between_phases
from mmgrid.grid.cells.cell import with_upstream
from mmgrid.grid.file.load import load_grid
from mmgrid.grid.standing.results import codes_table
from mmgrid.grid.standing.state import survey
from mmgrid.merging import BlockTable, MergeError
from mmgrid.merging.models.declaration import MMGRID_FILE
from mmgrid.merging.models.token_blocks import TokenBlock
from mmgrid.merging.output.own_files import damaged_files
from mmgrid.paradigms import PARADIGMS
from mmgrid.paradigms.checkpoints import load_checkpoint
from mmgrid.runners import run_local
from mmgrid.semantic_ids.item_codes import ItemCodes

pytestmark = pytest.mark.slow

DOMAINS = ("garden", "kitchen")
EMBED = "model.embed_tokens.weight"


@pytest.fixture(scope="module")
def spoken(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return built.grown(tmp_path_factory.mktemp("spoken"), SPOKEN)


@pytest.mark.smoke
@pytest.mark.parametrize("paradigm", ["text", "semid"])
def test_every_study_is_answered(spoken: Built, paradigm: str) -> None:
    for name in ("baselines", "vectors", "cross_domain", "base_model", "temporal", "advise"):
        folder = spoken.folder(f"study/{name}/{paradigm}")
        tables = {file.stem: pl.read_parquet(file) for file in folder.glob("*.parquet")}
        assert tables
        assert sum(table.height for table in tables.values()) or name == "advise", "two domains give no advice"


@pytest.mark.parametrize("paradigm", ["text", "semid"])
def test_the_code_in_the_card_runs(spoken: Built, tmp_path: Path, paradigm: str) -> None:
    folder = spoken.folder(f"checkpoint/{paradigm}/kitchen/phase2")
    assert "pipeline_tag: text-generation\n" in (folder / "README.md").read_text()
    assert len(run_snippet(folder, tmp_path / "model", kitchen=spoken.folder("corpus/kitchen")).splitlines()) == 5


def test_every_phase_starts_from_the_one_before_and_keeps_its_codes(spoken: Built) -> None:
    for domain in DOMAINS:
        codes = ItemCodes.load(spoken.folder(f"codes/{domain}")).codes
        for phase in ("pretrain", "phase1", "phase2"):
            folder = spoken.folder(f"checkpoint/semid/{domain}/{phase}")
            assert (ItemCodes.load(folder).codes == codes).all()
            blocks = BlockTable.read(folder)
            assert blocks is not None
            assert [block.name.partition("/")[0] for block in blocks.blocks] == ["backbone", domain]


@pytest.mark.smoke
def test_the_report_shows_the_quality_of_the_codes(spoken: Built, tmp_path: Path) -> None:
    table = codes_table(survey(spoken.cells, spoken.store)[0])
    assert table["domain"].to_list() == list(DOMAINS)
    for row in table.iter_rows(named=True):
        expected = json.loads((spoken.folder(f"codes/{row['domain']}") / "codes_report.json").read_text())
        codes = ItemCodes.load(spoken.folder(f"codes/{row['domain']}"))
        assert (row["items"], row["levels"], row["codes"]) == (expected["items"], 3, 8)
        assert row["least_used"] == min(len(set(level)) for level in codes.codes.T.tolist())
        assert row["colliding"] == codes.collisions().items
        assert row["error"] == pytest.approx(100 * expected["levels"][-1]["error"])
    out = tmp_path / "report.html"
    assert mmgrid("report", spoken.file, "--store", spoken.root, "-o", out, "--no-figures").code == 0
    page = out.read_text()
    assert "Collisions before" in page
    assert "residual_kmeans" in page


def test_new_items_get_codes_and_old_ones_keep_theirs(spoken: Built, tmp_path: Path) -> None:
    corpus, checkpoint = spoken.folder("corpus/garden"), spoken.folder("checkpoint/semid/garden/phase2")
    items = pl.read_parquet(corpus / "items.parquet").sort("item_id")
    new = items.head(3).with_columns(pl.col("item_id") + "x")  # between the old ones, with their texts: codes collide
    pl.concat([new, items.tail(2)]).write_parquet(tmp_path / "new.parquet")
    before = ItemCodes.load(checkpoint)
    add = ("codes", "add", "checkpoint/semid/garden/phase2", "--grid", spoken.file, "--store", spoken.root)
    to = ("-o", tmp_path / "grown", "--domain-out", tmp_path / "garden")
    said = mmgrid(*add, "--items", tmp_path / "new.parquet", *to, "--json").json
    assert (said["items"], said["added"], said["known"]) == (len(items) + 3, 3, 2)
    after = ItemCodes.load(tmp_path / "grown")
    grown = pl.read_parquet(tmp_path / "garden/items.parquet").sort("item_id")
    old = grown["item_id"].is_in(items["item_id"].implode()).to_numpy()
    assert grown["item_id"].to_list() == sorted([*items["item_id"], *new["item_id"]])
    assert (after.codes[old] == before.codes).all()
    assert after.has_code().all()
    own = {tuple(code) for code in before.codes.tolist()}
    assert said["colliding"] == sum(tuple(code) in own for code in after.codes[~old].tolist())
    assert said["moved"] + said["colliding"] >= 3, "each new item meets its twin"
    history = new["item_id"][0]
    arguments = (tmp_path / "grown", "--domain-dir", tmp_path / "garden", "-k", "200")
    found = mmgrid("recommend", *arguments, "--history", history, "--json").json["items"]
    assert set(new["item_id"][1:]) <= {one["item_id"] for one in found}
    users = pl.DataFrame({"user_id": ["a", "b"], "history": [[history], items["item_id"][:2].to_list()]})
    users.write_parquet(tmp_path / "users.parquet")
    batch = ("--users", tmp_path / "users.parquet", "-o", tmp_path / "best.parquet")
    assert mmgrid("recommend", *arguments, *batch).code == 0
    assert pl.read_parquet(tmp_path / "best.parquet")["items"][0].to_list() == [one["item_id"] for one in found]
    assert "exists already" in mmgrid(*add, "--items", tmp_path / "new.parquet", *to).err
    # A process that is killed between the two folders leaves that of the domain: the same command goes on.
    (tmp_path / "grown").rename(tmp_path / "whole")
    assert mmgrid(*add, "--items", tmp_path / "new.parquet", *to).code == 0
    for file in (tmp_path / "whole").iterdir():
        assert (tmp_path / "grown" / file.name).read_bytes() == file.read_bytes()
    (tmp_path / "grown").rename(tmp_path / "another")
    new.head(1).write_parquet(tmp_path / "less.parquet")
    answer = mmgrid(*add, "--items", tmp_path / "less.parquet", *to)
    assert "garden: exists already, and is not the domain with these items; name a new folder" in answer.err
    (tmp_path / "another").rename(tmp_path / "grown")
    other = ("--codes", spoken.folder("codes/kitchen"), "-o", tmp_path / "x", "--domain-out", tmp_path / "y")
    assert "is not the codebook of the codes in" in mmgrid(*add, "--items", tmp_path / "new.parquet", *other).err
    no_vectors = mmgrid("embed", *arguments[:3], "--items", tmp_path / "new.parquet", "-o", tmp_path / "v.parquet")
    assert "semid: generates items and has no vectors for them" in no_vectors.err


def test_new_items_of_a_merge_of_two_domains_and_of_a_family(spoken: Built, tmp_path: Path) -> None:
    """A merge has a file of codes for each domain, and a family has its weights elsewhere: what is written has both."""
    corpus = spoken.folder("corpus/garden")
    models = {domain: spoken.folder(f"checkpoint/semid/{domain}/phase2") for domain in DOMAINS}
    listed = "".join(f"  - {{path: {folder}, name: {domain}}}\n" for domain, folder in models.items())
    (tmp_path / "merge.yml").write_text(f"method: linear\nsources:\n{listed}")
    (tmp_path / "family.yml").write_text(
        f"base: {spoken.folder('base/semid')}\nsources:\n{listed}family:\n  part: {{kind: delta, bits: 4}}\n"
    )
    assert mmgrid("merge", tmp_path / "merge.yml", tmp_path / "merged").code == 0
    answer = mmgrid("merge", "--family", tmp_path / "family.yml", tmp_path / "family")
    assert answer.code == 0, answer.err
    items = pl.read_parquet(corpus / "items.parquet").sort("item_id")
    new = items.head(2).with_columns(pl.col("item_id") + "x")
    new.write_parquet(tmp_path / "new.parquet")
    before = {domain: ItemCodes.load(folder) for domain, folder in models.items()}
    book = ("--codes", spoken.folder("codes/garden"), "--embedder", spoken.folder("backbone/tiny"))
    for name in ("merged", "merge.yml", "family"):
        out, domain_out = tmp_path / f"{name}-grown", tmp_path / f"{name}-garden"
        arguments = (tmp_path / name, "--domain-dir", corpus, "--domain", "garden", "--items", tmp_path / "new.parquet")
        answer = mmgrid("codes", "add", *arguments, "-o", out, "--domain-out", domain_out, *book)
        assert answer.code == 0, answer.err
        asked = (out, "--domain-dir", domain_out, "--domain", "garden", "--history", new["item_id"][0], "-k", "999")
        answer = mmgrid("recommend", *asked, "--json")
        assert answer.code == 0, answer.err
        found = [one["item_id"] for one in answer.json["items"]]
        assert new["item_id"][1] in found
        assert (out / "model.safetensors").is_file()
        if name != "family":
            assert {path.name for path in out.glob("codes*")} == {f"codes-{domain}.safetensors" for domain in DOMAINS}
            kitchen = ItemCodes.load(out / "codes-kitchen.safetensors")
            assert (kitchen.codes == before["kitchen"].codes).all()
            record = json.loads((out / "mmgrid.json").read_text())
            assert not damaged_files(out, record.get("files", {}))
            assert ("codes-garden.safetensors" in record.get("files", {})) == (name == "merged")


def test_places_for_new_codes(spoken: Built, tmp_path: Path) -> None:
    checkpoint, corpus = spoken.folder("checkpoint/semid/garden/phase2"), spoken.folder("corpus/garden")
    pl.DataFrame({"item_id": ["x"], "title": ["A rake"]}).write_parquet(tmp_path / "new.parquet")
    add = ("codes", "add", "--domain-dir", corpus, "--items", tmp_path / "new.parquet")
    for out, domain_out, message in (
        ("a", "a", "are to be two folders, of which neither lies in the other"),
        ("a", "a/domain", "are to be two folders"),
        ("a/model", "a", "are to be two folders"),
        (checkpoint / "more", "a", "would lie in the checkpoint"),
        ("a", checkpoint / "more", "would lie in the checkpoint"),
    ):
        answer = mmgrid(*add, checkpoint, "-o", tmp_path / out, "--domain-out", tmp_path / domain_out)
        assert answer.code == 1
        assert message in answer.err
    assert [path.name for path in tmp_path.iterdir()] == ["new.parquet"]
    assert not (checkpoint / "more").exists()
    text = spoken.folder("checkpoint/text/garden/phase2")
    answer = mmgrid(*add, text, "-o", tmp_path / "a", "--domain-out", tmp_path / "b")
    assert f"{text}: has no codes of items; name a checkpoint of semid" in answer.err


def test_a_merge_keeps_the_token_rows_of_the_evaluated_domain(spoken: Built) -> None:
    sources = {domain: spoken.folder(f"checkpoint/semid/{domain}/phase2") for domain in DOMAINS}
    weights = {domain: load_checkpoint(folder)[1].state_dict() for domain, folder in sources.items()}
    base = spoken.folder("base/semid")
    words = len(open_base(base)[EMBED])
    for domain in DOMAINS:
        merged = merged_weights({"method": "linear", "weights": {}}, sources, base, keep=domain)
        assert merged[EMBED][words:].equal(weights[domain][EMBED][words:])
        mean = (weights["garden"][EMBED][:words] + weights["kitchen"][EMBED][:words]) / 2
        torch.testing.assert_close(merged[EMBED][:words], mean)
    neutral = neutral_base(sources)
    assert len(neutral[EMBED]) == words, "no token rows are anybody's base"
    over = merged_weights({"method": "ties", "options": {"preset": "subspace"}}, sources, neutral, keep="kitchen")
    assert over[EMBED][words:].equal(weights["kitchen"][EMBED][words:])


MIXED = """
[[merges]]
name        = "mixed"
sources     = ["garden/phase1", "garden/pretrain", "kitchen"]
evaluate_on = ["garden"]
paradigms   = ["semid"]
keep        = true
"""


def test_a_kept_merge_of_several_phases_has_the_rows_of_the_newest(tmp_path: Path) -> None:
    recipe = named(planned(tmp_path, text=SPOKEN + MIXED), "evaluation/semid/garden/mixed").recipe["merge"]
    assert recipe["token_rows"] == "garden/t1"
    folders = {}
    for name in recipe["weights"]:
        domain = name.partition("/")[0]
        rows = TokenBlock("backbone", 0, 3), TokenBlock(domain, 3, 4, domain, tokens=(f"<{domain}:a_0>",))
        (folder := tmp_path / name).mkdir(parents=True)
        (folder / MMGRID_FILE).write_text(json.dumps({"blocks": BlockTable((EMBED,), rows).as_json()}))
        folders[f"source:{name}"] = folder
    assert recipe_of_folders(recipe, folders)["blocks"] == {
        "backbone": "merge",
        "*": {"keep_all": ["garden/t1", "kitchen"]},
    }


def open_base(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def test_token_rows_are_counted_separately(spoken: Built) -> None:
    norms = pl.read_parquet(spoken.folder("study/vectors/semid") / "norms.parquet")
    tokens = norms.filter(pl.col("part") == "tokens")
    assert set(tokens["domain"]) == set(DOMAINS)
    width = spoken.grid.spec.backbone.hidden_size  # type: ignore[union-attr]
    assert set(tokens["elements"]) == {3 * 8 * width}
    assert tokens["l1_sum"].min() > 0
    whole = norms.filter(pl.col("part") == "whole")
    assert len(set(whole["elements"])) == 1, "the backbone's rows alone"
    text = pl.read_parquet(spoken.folder("study/vectors/text") / "norms.parquet")
    assert text.filter(pl.col("part") == "tokens").is_empty()


def test_evaluation_values_retrain_nothing(tmp_path: Path) -> None:
    before = fingerprints(planned(tmp_path, text=SPOKEN))
    asked = planned(tmp_path, "paradigms.semid.beam_width=7", "paradigms.text.titles=3", text=SPOKEN)
    changed = {name for name, fingerprint in fingerprints(asked).items() if before[name] != fingerprint}
    kinds = {name.split("/")[0] for name in changed}
    assert kinds == {"evaluation", "study"}
    assert {name.split("/")[1] for name in changed if name.startswith("evaluation")} == {"text", "semid"}


def test_a_shared_codebook_names_one_block_and_merges(spoken: Built, tmp_path: Path) -> None:
    other = spoken.copy(tmp_path)
    asked = 'studies=[{kind="cross_domain"}, {kind="base_model", alphas={from=0.0, to=1.0, step=1.0}}, {kind="vectors", paradigms=["semid"]}]'
    grid = load_grid(other.file, ['semantic_ids.codebook="shared"', asked, "evaluation.max_users=4"])
    wanted = [cell for cell in cells_of(grid) if "text" not in cell.key and "baseline" not in cell.key]
    outcome = run_local(wanted, grid, other.store, jobs=2)
    assert outcome.complete, outcome
    names = set()
    for domain in DOMAINS:
        cell = named(wanted, f"checkpoint/semid/{domain}/pretrain")
        names.add(
            json.loads((other.store.folder(cell.address) / "mmgrid.json").read_text())["blocks"]["rows"][1]["name"]
        )
    assert len(names) == 1
    assert names.pop().startswith("shared/")


def test_a_kept_merge_of_semid_serves_both_domains_by_one_cell(tmp_path: Path) -> None:
    kept = 'merges=[{kind="cross_domain", paradigms=["semid"], keep=true}]'
    cells = planned(tmp_path, kept, "studies=[]", text=SPOKEN)
    merges = {
        cell.upstream["model"]
        for cell in cells
        if cell.kind == "evaluation" and "merge" in cell.recipe and "model" in cell.upstream
    }
    assert [cell.name for cell in merges] == ["merge/semid/linear=garden+kitchen"]


def test_ends_with_different_codebooks_are_refused(spoken: Built, tmp_path: Path) -> None:
    ends = {
        role: spoken.folder(f"checkpoint/semid/{domain}/phase2")
        for role, domain in (("start", "garden"), ("end", "kitchen"))
    }
    with pytest.raises(MergeError, match="different codebooks"):
        line_between_phases(ends["start"], ends["end"], "semid")


def test_all_points_of_a_sweep_share_the_popularity(spoken: Built, tmp_path: Path) -> None:
    other = spoken.copy(tmp_path)
    asked = 'studies=[{kind="temporal", paradigms=["text"], domains=["garden"], scales={from=-0.001, to=0.001, step=0.001}}]'
    grid = load_grid(other.file, [asked, "paradigms.text.popularity_gamma=0.5"])
    names = ("temporal=-0.001", "phase1", "temporal=0.001")
    points = [named(cells_of(grid), f"evaluation/text/garden/{name}") for name in names]
    assert run_local(with_upstream(points), grid, other.store, jobs=2).complete
    ranks = [pl.read_parquet(other.store.folder(cell.address) / "ranks.parquet")["rank"].to_numpy() for cell in points]
    assert np.mean(ranks[0] != ranks[1]) < 0.5
    assert np.mean(ranks[0] != ranks[2]) < 0.5


@pytest.mark.smoke
def test_the_command_line_recommends_with_them(spoken: Built) -> None:
    corpus = spoken.folder("corpus/garden")
    items = pl.read_parquet(corpus / "items.parquet")["item_id"].to_list()
    for paradigm in ("text", "semid"):
        folder = spoken.folder(f"checkpoint/{paradigm}/garden/phase2")
        answer = mmgrid(
            "recommend", folder, "--domain-dir", corpus, "--history", ",".join(items[:3]), "-k", "3", "--json"
        )
        assert answer.code == 0, answer.err
        expected = {row["item_id"] for row in answer.json["items"]}
        assert len(expected) == 3
        assert not expected & set(items[:3])


def test_the_official_preset_changes_the_evaluation_and_its_users(tmp_path: Path) -> None:
    without = SPOKEN.replace("[evaluation]\nmax_users = 12\n", "").replace("history_length = 4\n", "")
    ours, official = (planned(tmp_path, *given, text=without) for given in ((), ('compat="official"',)))
    recipes = {
        name: [named(cells, f"evaluation/{name}/garden/phase2").recipe for cells in (ours, official)]
        for name in ("text", "semid")
    }
    assert [[recipe["max_users"] for recipe in pair] for pair in recipes.values()] == [[None, 5000]] * 2
    assert recipes["text"][1]["asked"]["popularity_gamma"] == 0.25
    assert recipes["semid"][1]["asked"]["hits"] == "code"
    assert all("masked" not in pair[0]["asked"] for pair in recipes.values())
    lengths = {
        paradigm: named(official, f"checkpoint/{paradigm}/garden/pretrain").recipe["history_length"]
        for paradigm in ("text", "semid")
    }
    assert lengths == {"text": 30, "semid": 30}
    assert named(official, "corpus/garden").recipe["compat"] == "official"
    named_length = load_grid(write_grid(tmp_path, without), ['compat="official"', "evaluation.history_length=9"]).spec
    assert named_length.recipe("text").history_length == 9


def test_no_more_users_are_evaluated_than_in_the_official_code(copied: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    """With five of them instead of five thousand."""
    monkeypatch.setattr(type(PARADIGMS["text"]), "official_users", 5)
    write_grid(copied.file.parent, SPOKEN.replace("[evaluation]\nmax_users = 12\n", ""))
    users = {}
    for compat in ("ours", "official"):
        settings = ['compat="official"'] if compat == "official" else []
        grid = load_grid(copied.file, [*settings, "studies=[]", "paradigms.text.epochs=0.1"])
        cell = named(cells_of(grid), "evaluation/text/garden/pretrain")
        assert run_local(with_upstream([cell]), grid, copied.store, jobs=1).complete
        users[compat] = pl.read_parquet(copied.store.folder(cell.address) / "ranks.parquet")["user_id"].to_list()
    assert len(users["official"]) == 5
    assert len(users["ours"]) > 12


def test_the_history_of_another_user_is_masked_as_in_the_official_code(spoken: Built, tmp_path: Path) -> None:
    other = spoken.copy(tmp_path)
    grid = load_grid(other.file, ['paradigms.text.masked="others"', "studies=[]"])
    cell = named(cells_of(grid), "evaluation/text/garden/phase2")
    assert run_local(with_upstream([cell]), grid, other.store, jobs=1).complete
    theirs = pl.read_parquet(other.store.folder(cell.address) / "ranks.parquet")
    ours = pl.read_parquet(spoken.folder("evaluation/text/garden/phase2") / "ranks.parquet")
    assert theirs["user_id"].equals(ours["user_id"])
    assert not theirs["rank"].equals(ours["rank"])


def test_a_model_from_scratch_has_the_shape_but_not_the_weights_of_the_backbone(spoken: Built, tmp_path: Path) -> None:
    other = spoken.copy(tmp_path)
    grid = load_grid(other.file, ['paradigms.semid.weights="drawn"', "studies=[]"])
    cells = cells_of(grid)
    assert named(cells, "codes/garden").fingerprint == named(spoken.cells, "codes/garden").fingerprint
    wanted = with_upstream([named(cells, "checkpoint/semid/garden/pretrain")])
    assert run_local(wanted, grid, other.store, jobs=1).complete
    drawn = open_base(other.store.folder(named(cells, "base/semid").address))
    backbone = open_base(spoken.folder("base/semid"))
    assert {name: weight.shape for name, weight in drawn.items()} == {n: w.shape for n, w in backbone.items()}
    assert not drawn[EMBED].equal(backbone[EMBED])
    assert float(drawn[EMBED].std()) == pytest.approx(0.02, rel=0.1)
