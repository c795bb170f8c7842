"""A wrong grid file gives one line per error: file, key, problem, suggestion."""

import os
import re
from pathlib import Path

import pytest

from kits.tiny_grid import TEXT, write_grid
from mmgrid.grid.file.load import GridError, load_grid

PHASES = 'phase1   = ["2022-07-01", "2022-10-01"]'

# What is set, and the whole line that must come of it, without the file's name.
WRONG = {
    "an infinite number": (
        "paradigms.semb.learning_rate=inf",
        "paradigms.semb.learning_rate: should be a finite number (it is inf)",
    ),
    "a number beyond all": (
        "paradigms.semb.epochs=1e400",
        "paradigms.semb.epochs: should be a finite number (it is inf)",
    ),
    "a zero byte": (
        'data.root="a\\u0000b"',
        "data.root: holds a zero byte, as no name and no path may (it is 'a\\x00b')",
    ),
    "a key of too many parts": (f"{'a.' * 5000}b=1", "a.a.a.a…: is nested more than 64 levels deep"),
    "a name of the store's": (
        'data.domains=["x.work"]',
        "data.domains: 'x.work': a store keeps such names for itself; choose another one",
    ),
    "a name in another form of Unicode": (
        'data.domains=["cafe\u0301"]',
        "data.domains: 'cafe\u0301' cannot name a folder of the store: its accents are signs of their own",
    ),
    "a key of the grid": ("eval.max_users=5", "eval: unknown key; did you mean evaluation?"),
    "a key of data": ("data.min_interaction=3", "data.min_interaction: unknown key; did you mean min_interactions?"),
    "a key of the world": ("data.synthetic.usrs=90", "data.synthetic.usrs: unknown key; did you mean users?"),
    "a key of one domain of the world": (
        "data.synthetic.domains.garden.drfit=1",
        "data.synthetic.domains.garden.drfit: unknown key; did you mean drift?",
    ),
    "a phase": ('phases.phase3=["2022-07-01", "2022-10-01"]', "phases.phase3: unknown key; did you mean phase2?"),
    "a key of the tiny backbone": (
        "backbone.hiden_size=3",
        "backbone.hiden_size: unknown key; did you mean hidden_size?",
    ),
    "a key of the other kind of backbone": ('backbone.path="x"', "backbone.path: unknown key; known are batch_rows"),
    "a key of a pretrained backbone": (
        'backbone={kind="pretrained", path="x", revison="main"}',
        "backbone.revison: unknown key; did you mean revision?",
    ),
    "a kind of backbone": (
        'backbone.kind="tinny"',
        "backbone.kind: should be 'tiny' or 'pretrained' (it is 'tinny'); did you mean 'tiny'?",
    ),
    "no kind of backbone": ("backbone={layers=2}", "backbone.kind: is missing"),
    "a paradigm": ("paradigms.sembb={}", "paradigms: unknown paradigm 'sembb'; did you mean semb?"),
    "a paradigm of a sample": (
        "evaluation.max_users_of={sembb=3}",
        "evaluation.max_users_of: unknown paradigm 'sembb'; did you mean semb?",
    ),
    "a key of a paradigm": (
        "paradigms.semb.histroy_length=20",
        "paradigms.semb.histroy_length: unknown key; did you mean history_length?",
    ),
    "a key of another paradigm": ("paradigms.sasrec.negatives=9", "paradigms.sasrec.negatives: unknown key; "),
    "a phase of epochs": (
        "paradigms.semb.epochs={phase3=1}",
        "paradigms.semb.epochs.phase3: unknown key; did you mean phase2?",
    ),
    "epochs that are no number": (
        'paradigms.semb.epochs="two"',
        "paradigms.semb.epochs: should be a number, or a table with one for each phase (it is 'two')",
    ),
    "epochs of one phase": (
        'paradigms.semb.epochs={phase1="two"}',
        "paradigms.semb.epochs.phase1: should be a number (it is 'two')",
    ),
    "a key of evaluation": ("evaluation.max_user=5", "evaluation.max_user: unknown key; did you mean max_users?"),
    "a target": ('evaluation.target="tst"', "evaluation.target: should be 'test' or 'phase2' (it is 'tst')"),
    "a key of a merge": (
        'merges=[{kind="cross_domain"}, {kind="cross_domain", wieght=0.2}]',
        "merges[1].wieght: unknown key; did you mean weight?",
    ),
    "a kind of merge": (
        'merges=[{kind="cross"}]',
        "merges[0].kind: should be 'merge', 'cross_domain' or 'temporal' (it is 'cross')",
    ),
    "a merge without a name": ("merges=[{}]", "merges[0].name: is missing"),
    "the name of a merge": (
        'merges=[{name="a/b"}]',
        "merges[0] (a/b): name: 'a/b': a name that becomes part of a path",
    ),
    "a name that is a domain": (
        'merges=[{name="garden"}]',
        "merges[0] (garden): name: garden is a domain; choose another name",
    ),
    "a word as a name": (
        'merges=[{name="neutral"}]',
        "merges[0] (neutral): name: 'neutral' has another meaning in a merge; choose another name",
    ),
    "two merges of one name": (
        'merges=[{name="x"}, {name="x"}]',
        "merges[1] (x): name: merges[0] has the same name; choose another one",
    ),
    "a source": (
        'merges=[{name="x", sources=["gardn"]}]',
        "merges[0] (x): sources: gardn is no checkpoint; did you mean garden?",
    ),
    "a base": (
        'merges=[{name="x", base="z"}]',
        "merges[0] (x): base: z is no base; write backbone, historical, neutral",
    ),
    "a misspelt checkpoint": (
        'merges=[{name="x", sources=["garden/phas1"]}]',
        "merges[0] (x): sources: garden/phas1 is no checkpoint; did you mean garden/phase1?",
    ),
    "a misspelt domain": (
        'merges=[{kind="cross_domain", domains=["gardn", "kitchen"]}]',
        "merges[0].domains: gardn is not in the grid; did you mean garden?",
    ),
    "a pair of one domain": (
        'merges=[{kind="cross_domain", domains=["garden"]}]',
        "merges[0].domains: should have at least 2 values (it is ['garden'])",
    ),
    "a pair of a domain and itself": (
        'merges=[{kind="cross_domain", domains=["garden", "garden"]}]',
        "merges[0].domains: garden is named twice",
    ),
    "a short form twice": (
        'merges=[{kind="temporal"}, {kind="temporal"}]',
        "merges[1].name: merges[0] has the same name; choose another one",
    ),
    "a wrong word of a list": (
        'studies=[{kind="temporal", groups=["activ"]}]',
        "studies[0].groups[0]: should be 'all', 'active' or 'non_active' (it is 'activ')",
    ),
    "a part of a family": (
        'families=[{name="x", part={kind="delta", bts=4}}]',
        "families[0] (x): part.bts: unknown key; did you mean bits? (known: kind, bits, group, vectors)",
    ),
    "a key of a rule of a family": (
        'families=[{name="x", rules=[{tensor="*", part="own"}]}]',
        "families[0] (x): rules[0].tensor: unknown key; did you mean tensors?",
    ),
    "a part that is a number": (
        'families=[{name="x", part=4}]',
        "families[0] (x): part: must name a kind of part, not 4 (known: shared",
    ),
    "a value of a variant": (
        'variants=[{name="x", set={epoch=1}}]',
        "variants[0].set: epoch is no value of ",
    ),
    "a key of the quantiser": (
        'semantic_ids.quantiser={kind="residual_kmeans", cods=8}',
        "semantic_ids.quantiser.cods: unknown key; did you mean codes?",
    ),
    "a phase of three days": (
        'phases.test=["2023-01-01", "2023-02-01", "2023-03-01"]',
        "phases.test: should have at most 2 values (it is ['2023-01-01'",
    ),
    "a base of a tower": (
        'merges=[{name="x", towers={item={base="z"}}}]',
        "merges[0] (x): towers.item.base: z is no ba",
    ),
    "a domain to evaluate on": (
        'merges=[{name="x", evaluate_on=["toys"]}]',
        "merges[0] (x): evaluate_on: toys is not in the grid; it has garden, kitchen",
    ),
    "a word for a tower": (
        'merges=[{name="x", towers={item="owm"}}]',
        "merges[0] (x): towers.item.take: should be 'merge' or 'own' (it is 'owm')",
    ),
    "a key of a tower": (
        'merges=[{name="x", towers={item={scle=2}}}]',
        "merges[0] (x): towers.item.scle: unknown key; did you mean scale?",
    ),
    "a scale of what is not merged": (
        'merges=[{name="x", towers={item={take="own", scale=2}}}]',
        'merges[0] (x): towers.item: take = "own" copies the tensors, so scale would have no effect; remove it',
    ),
    "a scale that is no number": (
        'merges=[{kind="temporal", scale="x"}]',
        "merges[0].scale: should be a number, or a list of numbers that is spread over the depth (it is 'x')",
    ),
    "a place of layers": (
        'merges=[{name="x", layers={top="own"}}]',
        "merges[0] (x): layers: 'top' is no place; write '0'",
    ),
    "layers from the last": (
        'merges=[{name="x", layers={"3-0"="own"}}]',
        "merges[0] (x): layers: '3-0': the last layer comes before the first",
    ),
    "a weight": (
        'merges=[{kind="cross_domain", weight=2}]',
        "merges[0].weight: should be less than or equal to 1 (it is 2)",
    ),
    "a domain of a merge": (
        'merges=[{kind="cross_domain", domains=["garden", "toys"]}]',
        "merges[0].domains: toys is not in the grid",
    ),
    "a paradigm of a merge": (
        'merges=[{kind="cross_domain", paradigms=["text"]}]',
        "merges[0].paradigms: text is not in the grid",
    ),
    "a domain of the backbone": ('backbone.corpus=["toys"]', "backbone.corpus: toys is not in the grid"),
    "a domain of the world": (
        "data.synthetic.domains.toys.users=90",
        "data.synthetic.domains: toys is not in the grid",
    ),
    "a number of the world": ("data.synthetic.users=5", "data.synthetic: garden.users is 5: expected a number from 20"),
    "a domain twice": ('data.domains=["garden", "garden"]', "data.domains: named twice: garden"),
    "a domain that can name no folder": ('data.domains=["garden", "../etc"]', "data.domains: '../etc': a name"),
    "a format": ('data.format="paquet"', "data: format 'paquet' is unknown; known are"),
    "a root that is missing": (
        'data={format="parquet", domains=["a"]}',
        "data: root: is missing; format 'parquet' needs",
    ),
    "overlapping phases": (
        'phases.phase1=["2022-06-01", "2022-10-01"]',
        "phases: pretrain [2017-07-01, 2022-07-01) and phase1 [2022-06-01, 2022-10-01) overlap or are out of order",
    ),
    "a reversed phase": ('phases.phase1=["2022-10-01", "2022-07-01"]', "phases: phase 'phase1': its start 2022-10-01"),
    "no date": ('phases.phase1=["2022-7-1", "2022-10-01"]', "phases: phase1: '2022-7-1': not a date; write it as"),
    "a whole number": ('seed="one"', "seed: should be a whole number (it is 'one')"),
    "a seed twice": ("seeds=[1, 2, 1]", "seeds: one is named twice"),
    "a table": ("paradigms.semb=3", "paradigms.semb: should be a table (it is 3)"),
    "a list": ('data.domains="garden"', "data.domains: should be a list (it is 'garden')"),
    "nothing": ("data.domains=[]", "data.domains: must not be empty"),
    "a batch of none": ("paradigms.semb.batch_size=0", "paradigms.semb.batch_size: should be greater than 0 (it is 0)"),
    "heads that do not divide": ("backbone.heads=3", "backbone: hidden_size 32 must be a multiple of heads 3"),
}
JARGON = ("pydantic", "Input", "input", "type=", "dict", "tuple", "validat", "discriminator", "Value error", "http")


@pytest.mark.parametrize("case", WRONG)
def test_an_error_is_one_line(case: str, tmp_path: Path) -> None:
    setting, says = WRONG[case]
    file = write_grid(tmp_path)
    with pytest.raises(GridError) as caught:
        load_grid(file, [setting])
    message = str(caught.value)
    assert message.startswith(f"{file}: {says}"), message
    assert "\n" not in message
    assert not [word for word in JARGON if word in message.removeprefix(str(file))]


def test_a_wrong_key_in_the_file_is_reported_with_a_suggestion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grids").mkdir()
    Path("grids/demo.toml").write_text(TEXT.replace("\ntext_tokens = 32", "\nhistroy_length = 32"))
    with pytest.raises(GridError) as caught:
        load_grid(Path("grids/demo.toml"))
    assert str(caught.value) == (
        "grids/demo.toml: paradigms.semb.histroy_length: unknown key; did you mean history_length?"
    )


def test_several_errors_have_one_line_each(tmp_path: Path) -> None:
    file = write_grid(tmp_path)
    with pytest.raises(GridError) as caught:
        load_grid(file, ["seed=0.5", "data.minimum=3"])
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"{file}: ") for line in lines)


def test_the_file_is_missing_or_a_folder_or_no_toml(tmp_path: Path) -> None:
    with pytest.raises(GridError, match=r"nowhere\.toml: no such file; `mmgrid init` writes one"):
        load_grid(tmp_path / "nowhere.toml")
    with pytest.raises(GridError, match="is a folder"):
        load_grid(tmp_path)
    file = write_grid(tmp_path, 'name = "tiny"\nseed 0\n')
    with pytest.raises(GridError, match=r"tiny\.toml: is not valid TOML: .*line 2"):
        load_grid(file)
    file.write_bytes(b'name = "\xff"')
    with pytest.raises(GridError, match=r"tiny\.toml: is not valid TOML"):
        load_grid(file)


def test_environment_variables_are_replaced_or_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_grid(tmp_path)
    settings = ['data={format="parquet", domains=["garden", "kitchen"], root="${TINY_DATA}/amazon"}']
    monkeypatch.setenv("TINY_DATA", "/somewhere")
    assert load_grid(file, settings).spec.data.root == "/somewhere/amazon"
    for unset in (lambda: monkeypatch.setenv("TINY_DATA", ""), lambda: monkeypatch.delenv("TINY_DATA")):
        unset()
        with pytest.raises(GridError) as caught:
            load_grid(file, settings)
        assert str(caught.value).startswith(f"{file}: data.root: the environment variable TINY_DATA is not set; ")


def test_settings_are_read_as_toml_and_a_bare_word_is_a_text(tmp_path: Path) -> None:
    settings = ["seed=7", "name=other", "evaluation.max_users=50", "paradigms.semb.epochs={phase2 = 4}", "merges=[]"]
    spec = load_grid(write_grid(tmp_path, TEXT.replace("epochs = 1\n", "")), settings).spec
    assert (spec.seed, spec.name, spec.evaluation.max_users, spec.merges) == (7, "other", 50, ())
    assert spec.recipe("semb").epochs.model_dump(exclude_none=True) == {"pretrain": 3, "phase1": 2, "phase2": 4}


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("evaluation.max_users", "expected key=value"),
        ("=3", "expected key=value"),
        ("name.first=1", "name is not a table"),
    ],
)
def test_an_invalid_setting_is_reported(setting: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(GridError, match=f"^--set {setting}: {says}"):
        load_grid(write_grid(tmp_path), [setting])


def test_settings_reach_into_lists_and_quoted_keys(tmp_path: Path) -> None:
    settings = ["merges[0].weight=0.2", "merges.0.keep=true", 'data.synthetic.domains."garden".drift=0.7']
    spec = load_grid(
        write_grid(tmp_path), [*settings, 'backbone.corpus[1]="garden"', 'backbone.corpus[0]="kitchen"']
    ).spec
    assert (spec.merges[0].weight, spec.merges[0].keep) == (0.2, True)
    assert spec.data.synthetic is not None
    assert spec.data.synthetic.values("garden")["drift"] == 0.7
    assert spec.corpus_domains == ("kitchen", "garden")
    for setting in ("merges[1].weight=0.2", "merges.linear.weight=0.2"):
        with pytest.raises(GridError, match=r"is no number of an entry of merges; it has 1, the first is merges\[0\]"):
            load_grid(write_grid(tmp_path), [setting])
    for setting, says in {
        "data.domains[-1]=x": "-1 is no number of an entry of data.domains; it has 2, the first is data.domains[0]",
        "studies[0].draws=1": "0 is no number of an entry of studies; it has none",
        "studies[0]=1": "0 is no number of an entry of studies; it has none",
        "data[0]=1": "data is a table, not a list; write one of its keys in place of [0]",
    }.items():
        with pytest.raises(GridError, match=re.escape(f": {says}") + "$"):
            load_grid(write_grid(tmp_path), [setting])


@pytest.mark.parametrize("key", ["", "a..b", "a.", ".a", "[0].a", 'a."', '""', "a[0", "a]", "a[0]b", 'a"b"'])
def test_a_setting_whose_parts_are_no_whole_key_is_refused(key: str, tmp_path: Path) -> None:
    with pytest.raises(GridError, match=re.escape(f"--set {key}: is no key; write it like ")):
        load_grid(write_grid(tmp_path), {key: 5})


def test_dates_may_be_toml_dates(tmp_path: Path) -> None:
    bare = load_grid(write_grid(tmp_path, TEXT.replace(PHASES, PHASES.replace('"', "")))).spec
    assert bare.phases == load_grid(write_grid(tmp_path)).spec.phases


def test_paths_of_a_grid_file_are_relative_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = load_grid(write_grid(tmp_path))
    monkeypatch.chdir("/")
    assert grid.path("raw/books") == (tmp_path / "raw" / "books").resolve()
    assert grid.path("/data") == Path("/data")


def test_a_grid_is_a_file_of_its_own(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(GridError, match="pipe: is a pipe or a device; .* write the grid into a file"):
        load_grid(pipe)
    with pytest.raises(GridError, match="-: standard input is no grid file"):
        load_grid("-")
    with pytest.raises(GridError, match=r"https://…@example.org/g.toml: is an address") as refused:
        load_grid("https://me:hunter2@example.org/g.toml")
    assert "hunter2" not in str(refused.value)
