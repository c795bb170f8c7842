"""The cells of a grid, and the exact keys of the grid file on which each depends."""

import fnmatch
import json
import shutil
from pathlib import Path

import pytest

from kits.tiny_grid import TEXT, cells_of, fingerprints, named, planned, write_grid
from mmgrid.grid.cells.cell import with_upstream
from mmgrid.grid.file.load import GridError, load_grid
from mmgrid.grid.file.names import alike_but_for_case

PARQUET = 'data={format="parquet", root="raw", domains=["garden", "kitchen"]}'
WHOLE = {"*"}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A folder with the raw files of two domains; planning only computes their digests."""
    return _raw(tmp_path)


def _raw(folder: Path) -> Path:
    for domain in ("garden", "kitchen"):
        for name in ("interactions", "items"):
            file = folder / "raw" / domain / f"{name}.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{name} of {domain}")
    return folder / "raw"


def _prints(folder: Path, *settings: str, text: str = TEXT) -> dict[str, str]:
    return fingerprints(planned(folder, *settings, text=text))


def _changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """The names that are new, or have a different fingerprint."""
    return {name for name, found in after.items() if before.get(name) != found}


def test_the_cells_of_the_tiny_grid(tmp_path: Path) -> None:
    phases = ("pretrain", "phase1", "phase2")
    models = {("semb", phase) for phase in phases} | {("sasrec", phase) for phase in (*phases, "all")}
    expected = {"backbone/tiny", "base/semb"}
    for domain in ("garden", "kitchen"):
        expected |= {f"corpus/{domain}", f"evaluation/semb/{domain}/linear=garden+kitchen"}
        expected |= {f"checkpoint/{paradigm}/{domain}/{phase}" for paradigm, phase in models}
        expected |= {f"evaluation/{paradigm}/{domain}/{phase}" for paradigm, phase in models}
        expected |= {f"evaluation/baseline/{domain}/{name}" for name in ("popularity", "random")}
    assert set(_prints(tmp_path)) == expected


def test_each_phase_starts_from_the_one_before_and_the_first_from_the_base(tmp_path: Path) -> None:
    cells = planned(tmp_path)
    for domain in ("garden", "kitchen"):
        for paradigm, first in (("semb", "base/semb"), ("sasrec", None)):
            pretrain, phase1, phase2 = (
                named(cells, f"checkpoint/{paradigm}/{domain}/{phase}") for phase in ("pretrain", "phase1", "phase2")
            )
            assert (pretrain.upstream["start"].name if "start" in pretrain.upstream else None) == first
            assert phase1.upstream["start"] == pretrain
            assert phase2.upstream["start"] == phase1
        assert "start" not in named(cells, f"checkpoint/sasrec/{domain}/all").upstream
    merge = named(cells, "evaluation/semb/kitchen/linear=garden+kitchen")
    assert {role: cell.name for role, cell in merge.upstream.items()} == {
        "corpus": "corpus/kitchen",
        "base": "base/semb",
        "source:garden": "checkpoint/semb/garden/phase2",
        "source:kitchen": "checkpoint/semb/kitchen/phase2",
    }


def test_upstream_comes_first_and_every_cell_once(tmp_path: Path) -> None:
    cells = planned(tmp_path, "seeds=[0, 1]")
    assert len(set(cells)) == len(cells) == len({cell.name for cell in cells})
    before = set()
    for cell in cells:
        assert before.issuperset(cell.upstream.values()), cell.name
        before.add(cell)
    last = named(cells, "evaluation/semb/kitchen/linear=garden+kitchen/seed=1")
    assert with_upstream([last])[-1] == last
    assert set(with_upstream([last])) < set(cells)


def test_fingerprints_do_not_depend_on_path_machine_order_or_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    _raw(here)
    first = _prints(here, PARQUET)
    _raw(there / "deep").rename(there / "tables")
    monkeypatch.chdir(there)
    for name, value in {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "7", "MMGRID_SAVE_SECONDS": "1"}.items():
        monkeypatch.setenv(name, value)
    settings = [
        f'data={{format="parquet", root="{there}/tables", domains=["kitchen", "garden"]}}',
        'backbone.corpus=["kitchen", "garden"]',
        'name="another"',
    ]
    semb, sasrec = TEXT.index("[paradigms.semb]"), TEXT.index("[paradigms.sasrec]")
    end = TEXT.index("[[merges]]")
    turned = TEXT[:semb] + TEXT[sasrec:end] + TEXT[semb:sasrec] + TEXT[end:]
    assert _prints(there, *settings, text=turned) == first


# What is set, and patterns of the names of the cells that it changes: those, and no others.
OF_SEMB = {"backbone/*", "base/*", "checkpoint/semb/*", "evaluation/semb/*"}
CHANGES = {
    "epochs of phase2": (
        "paradigms.semb.epochs={pretrain=1, phase1=1, phase2=5}",
        {"checkpoint/semb/*/phase2", "evaluation/semb/*/phase2", "evaluation/semb/*/linear=*"},
    ),
    "learning rate of phase1": (
        "paradigms.semb.learning_rate={phase1=7e-4}",
        {"checkpoint/semb/*/phase[12]", "evaluation/semb/*/phase[12]", "evaluation/semb/*/linear=*"},
    ),
    "epochs in one go": ("paradigms.sasrec.epochs={all=4, pretrain=2, phase1=2, phase2=2}", {"*/sasrec/*/all"}),
    "precision": ('paradigms.semb.precision="bf16"', {"checkpoint/semb/*", "evaluation/semb/*"}),
    "text": ("paradigms.semb.text_tokens=20", OF_SEMB - {"backbone/*"}),
    "dropout": ("paradigms.sasrec.dropout=0.4", {"checkpoint/sasrec/*", "evaluation/sasrec/*"}),
    "backbone": ("backbone.steps=41", OF_SEMB),
    "history": ("evaluation.history_length=20", {"base/*", "checkpoint/*", "evaluation/s*"}),
    "test users": ("evaluation.max_users=20", {"evaluation/*"}),
    "merge": (
        'merges=[{kind="cross_domain", method="task_arithmetic", scale=0.5}]',
        {"evaluation/semb/*/task_arithmetic-scale0.5=*"},
    ),
    "catalogue": ('data.catalogue="open"', {"backbone/*", "base/*", "checkpoint/*", "evaluation/*"}),
    "threads": ("threads_per_cell=2", {"backbone/*", "base/*", "checkpoint/*", "evaluation/*"}),
    "one domain": (
        "data.synthetic.domains.garden.drift=0.9",
        OF_SEMB | {"corpus/garden", "*/sasrec/garden/*", "evaluation/baseline/garden/*"},
    ),
    "calendar": ('phases.test=["2023-01-01", "2023-03-01"]', WHOLE),
    "seed": ("seed=1", WHOLE),
    "users": ("data.max_users=100", WHOLE),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_value_changes_the_cells_that_depend_on_it_and_no_others(case: str, tmp_path: Path) -> None:
    setting, patterns = CHANGES[case]
    after = _prints(tmp_path, setting)
    expected = {name for name in after if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)}
    assert _changed(_prints(tmp_path), after) == expected != set()


@pytest.mark.parametrize(
    "setting",
    [
        "data.min_interactions=5",
        "evaluation.history_length=25",
        "paradigms.semb.epochs={pretrain=1.0, phase1=1, phase2=1}",
        "paradigms.sasrec.dropout=0.2",
        'merges=[{kind="cross_domain", weight=0.5, scale=1, options={normalise=true}}]',
        "phases.test=[2023-01-01T00:00:00Z, 2023-04-01]",
        "seeds=[0]",
    ],
)
def test_writing_a_default_changes_nothing(setting: str, tmp_path: Path) -> None:
    assert _prints(tmp_path, setting) == _prints(tmp_path)


def test_another_raw_file_changes_its_domain_only(tmp_path: Path, raw: Path) -> None:
    settings = (PARQUET, 'backbone.corpus=["kitchen"]')
    before = _prints(tmp_path, *settings)
    (raw / "garden" / "items.parquet").write_text("other items")
    changed = _changed(before, _prints(tmp_path, *settings))
    assert {
        "corpus/garden",
        "checkpoint/semb/garden/pretrain",
        "evaluation/semb/kitchen/linear=garden+kitchen",
    } < changed
    assert not {name for name in changed if "kitchen" in name and "linear" not in name}
    assert not changed & {"backbone/tiny", "base/semb"}


def test_a_new_domain_leaves_all_other_cells(tmp_path: Path) -> None:
    before, after = _prints(tmp_path), _prints(tmp_path, 'data.domains=["games", "garden", "kitchen"]')
    assert before.items() <= after.items()
    assert all("games" in name for name in after.keys() - before.keys())
    pairs = {name.rpartition("/")[2] for name in after if "linear=" in name}
    assert pairs == {"linear=garden+kitchen", "linear=games+garden", "linear=games+kitchen"}


def test_several_seeds_share_their_corpora_and_nothing_else(tmp_path: Path) -> None:
    one, two = _prints(tmp_path), planned(tmp_path, "seeds=[0, 1]")
    assert {cell.name for cell in two if not cell.name.endswith(("/seed=0", "/seed=1"))} == {
        "corpus/garden",
        "corpus/kitchen",
    }
    for cell in two:
        if cell.name.endswith("/seed=0"):
            assert cell.fingerprint == one[cell.name.removesuffix("/seed=0")]
        elif cell.name.endswith("/seed=1"):
            assert cell.fingerprint != one[cell.name.removesuffix("/seed=1")]


def test_the_sample_of_test_users_is_part_of_an_evaluation(tmp_path: Path, raw: Path) -> None:
    """All seeds use the same sample, which is drawn with the first seed."""
    name = "evaluation/baseline/garden/popularity/seed=2"
    first, other = ([PARQUET, f"seeds=[{seed}, 2]"] for seed in (0, 1))
    assert named(planned(tmp_path, *first), name) == named(planned(tmp_path, *other), name)
    sampled = "evaluation.max_users=20"
    assert named(planned(tmp_path, *first, sampled), name) != named(planned(tmp_path, *other, sampled), name)


def test_a_paradigm_may_be_evaluated_on_fewer_users(tmp_path: Path) -> None:
    cells = planned(tmp_path, "evaluation.max_users_of={ semb = 20 }")
    asked = {cell.key[0]: cell.recipe["max_users"] for cell in cells if cell.kind == "evaluation"}
    assert asked == {"semb": 20, "sasrec": None, "baseline": None}
    one, all_of_it = planned(tmp_path, "evaluation.max_users=20"), planned(tmp_path)
    name = "evaluation/semb/garden/phase2"
    assert named(cells, name) == named(one, name)
    assert named(cells, "evaluation/sasrec/garden/phase2") == named(all_of_it, "evaluation/sasrec/garden/phase2")


def test_tuning_on_phase2_builds_nothing_trained_on_it(tmp_path: Path) -> None:
    cells = planned(tmp_path, 'evaluation.target="phase2"')
    assert not [cell.name for cell in cells if "phase2" in cell.key]
    assert {cell.recipe["until"] for cell in cells if cell.key[-1] == "all" and cell.kind == "checkpoint"} == {"phase1"}
    merge = named(cells, "evaluation/semb/garden/linear=garden+kitchen")
    assert merge.upstream["source:garden"].name == "checkpoint/semb/garden/phase1"


def test_unequal_weights_make_two_merges_of_a_pair(tmp_path: Path) -> None:
    cells = planned(tmp_path, 'merges=[{kind="cross_domain", weight=0.75, keep=true}]')
    names = {"garden": "linear=0.75-garden+0.25-kitchen", "kitchen": "linear=0.25-garden+0.75-kitchen"}
    for target, name in names.items():
        evaluation, merge = named(cells, f"evaluation/semb/{target}/{name}"), named(cells, f"merge/semb/{name}")
        assert evaluation.upstream["model"] == merge
        assert evaluation.recipe["merge"]["weights"][target] == 0.75
    assert {cell.name for cell in cells if cell.kind == "merge"} == {f"merge/semb/{name}" for name in names.values()}


def test_equal_weights_share_one_merge(tmp_path: Path) -> None:
    cells = planned(tmp_path, 'merges=[{kind="cross_domain", keep=true}]')
    (merge,) = (cell for cell in cells if cell.kind == "merge")
    for domain in ("garden", "kitchen"):
        assert named(cells, f"evaluation/semb/{domain}/linear=garden+kitchen").upstream["model"] == merge


@pytest.mark.parametrize(
    ("merge", "says"),
    [
        ('method="lineer"', r"merges\[0\]: unknown merge method 'lineer'; did you mean linear\?"),
        ("options={normalize=true}", r"merges\[0\]: linear: unknown option 'normalize'; did you mean normalise\?"),
        ("scale=0.5", r"merges\[0\]: linear: scale = 0\.5 has no effect, because this method has no delta; use weight"),
        ('paradigms=["sasrec"]', r"merges\[0\]: sasrec has no base"),
    ],
)
def test_an_impossible_merge_is_reported_before_anything_is_built(merge: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(GridError, match=rf"tiny\.toml: {says}"):
        planned(tmp_path, f'merges=[{{kind="cross_domain", {merge}}}]')


def test_without_a_paradigm_that_needs_one_there_is_no_backbone(tmp_path: Path) -> None:
    cells = planned(tmp_path, "paradigms={sasrec={}}")
    assert {cell.kind for cell in cells} == {"corpus", "checkpoint", "evaluation"}


def test_a_pretrained_backbone_is_identified_by_its_files_or_its_id(tmp_path: Path) -> None:
    folder = tmp_path / "llm"
    folder.mkdir()
    (folder / "config.json").write_text("{}")

    def backbone(path: str, more: str = "") -> str:
        cells = planned(tmp_path, f'backbone={{kind="pretrained", path="{path}"{more}}}')
        return named(cells, "backbone/pretrained").fingerprint

    by_files = backbone("llm")
    folder.rename(tmp_path / "moved")
    assert backbone(str(tmp_path / "moved")) == by_files
    (tmp_path / "moved" / "config.json").write_text('{"layers": 1}')
    assert backbone("moved") != by_files
    assert len({backbone("org/model"), backbone("org/other"), backbone("org/model", ', revision="v2"')}) == 3
    for absent in ("./absent", "/absent", "~/absent-model"):
        with pytest.raises(GridError, match=r"tiny\.toml: backbone\.path: no folder /"):
            backbone(absent)


def test_a_backbone_is_identified_by_weights_outside_of_its_folder_too(tmp_path: Path) -> None:
    """Those of the models under an adapter, and of the family that a checkpoint is part of."""
    base, adapter, part = tmp_path / "base", tmp_path / "adapter", tmp_path / "family" / "parts" / "garden"
    for folder in (base, adapter, part):
        folder.mkdir(parents=True)
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "../base", "r": 2}))
    (adapter / "adapter_model.safetensors").write_bytes(b"")
    upon = shutil.copytree(adapter, tmp_path / "upon")
    (upon / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "../adapter", "r": 2}))
    (part / "config.json").write_text("{}")

    def backbone(folder: Path) -> str:
        cells = planned(tmp_path, f'backbone={{kind="pretrained", path="{folder}"}}')
        return named(cells, "backbone/pretrained").fingerprint

    for folder, elsewhere in (
        (adapter, base / "model.safetensors"),
        (upon, adapter / "adapter_model.safetensors"),
        (upon, base / "model.safetensors"),
        (part, tmp_path / "family" / "family.json"),
    ):
        elsewhere.write_text("{}")
        before = backbone(folder)
        (base / "record.json").write_text("{}")  # of a store's cell: it is no part of the model
        assert backbone(folder) == before
        elsewhere.write_text('{"other": 1}')
        assert backbone(folder) != before


def test_a_missing_raw_file_is_reported(tmp_path: Path, raw: Path) -> None:
    (raw / "kitchen" / "interactions.parquet").unlink()
    with pytest.raises(ValueError, match=r"kitchen/interactions\.parquet: no such file; .* holds items\.parquet"):
        cells_of(load_grid(write_grid(tmp_path), [PARQUET]))


def test_two_merges_with_the_same_name_are_refused(tmp_path: Path) -> None:
    twice = 'merges=[{kind="cross_domain"}, {kind="cross_domain", options={normalise=false}}]'
    with pytest.raises(
        GridError, match=r"merges: 2 different cells are called evaluation/semb/garden/linear=garden\+k"
    ):
        planned(tmp_path, twice)
    same = 'merges=[{kind="cross_domain"}, {kind="cross_domain"}]'
    assert _prints(tmp_path, same) == _prints(tmp_path)


@pytest.mark.parametrize(
    ("domains", "same"), [(["garden", "Garden"], True), (["Ä", "ä"], True), (["straße", "strasse"], False)]
)
def test_folders_that_differ_only_in_case_are_refused(domains: list[str], same: bool) -> None:
    names = [f"checkpoint/semb/{domain}/{phase}" for domain in domains for phase in ("phase1", "phase2")]
    problem = alike_but_for_case(names)
    upper, lower = sorted(domains)
    assert (problem or "").startswith(f"{upper} and {lower}, in the names of cells, differ only") == same
    assert (problem is None) != same


def test_a_grid_with_such_domains_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GridError, match="Garden and garden, in the names of cells"):
        planned(tmp_path, 'data.domains=["garden", "Garden"]', 'backbone.corpus=["garden"]')
