"""push and pull, against a small server that speaks the Hub's HTTP."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

import mmgrid as face
from kits.hub_server import TOKEN, Hub, running_hub
from kits.tiny_grid import Built, bytes_below, mmgrid
from kits.tiny_llama import tiny_llama
from mmgrid.families import compress, expand
from mmgrid.files import HubError
from mmgrid.hub import pull, push
from mmgrid.merging import merge
from mmgrid.merging.output.own_files import damaged_files

# The Hub's library hands a file to its HTTP library in a deprecated way.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
BESIDE = ("optimizer.pt", "train.log", "store.lock", "model.safetensors.partial", ".env", "record.json", "notes.txt")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.chdir(tmp_path)
    with running_hub(tmp_path / "cache", monkeypatch) as server:
        yield server


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_llama(tmp_path / "model", 0)


def test_what_was_pushed_is_pulled(hub: Hub, model: Path) -> None:
    for name in BESIDE:
        (model / name).write_text("{}")
    answer = mmgrid("push", model, "--repo", "garden", "--message", "The first")
    assert answer.code == 0
    assert answer.out.splitlines()[-1] == f"{hub.url}/me/garden"
    _, files = hub.repos["me/garden"].at("main") or ("", {})
    names = ["README.md", "SHA256SUMS", "config.json", "model.safetensors", "tokenizer.json"]
    assert sorted(files) == [".gitattributes", *names]
    assert b'from_pretrained("me/garden")' in files["README.md"]
    answer = mmgrid("pull", "me/garden")
    assert answer.code == 0
    assert "garden: a language model, from me/garden@" in answer.out
    assert "digests of 3 files agree" in answer.out
    assert sorted(path.name for path in Path("garden").iterdir()) == names
    assert Path("garden/model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()
    with pytest.raises(FileExistsError, match="garden: exists already; give another folder"):
        pull("me/garden")


def test_what_lies_below_a_merge_is_published(hub: Hub, model: Path, tmp_path: Path) -> None:
    """The modules of a sentence transformer, without which the record would call them missing."""
    kind = "sentence_transformers.models"
    modules = [{"path": "", "type": f"{kind}.Transformer"}, {"path": "1_Pooling", "type": f"{kind}.Pooling"}]
    (model / "modules.json").write_text(json.dumps(modules))
    (model / "1_Pooling").mkdir()
    (model / "1_Pooling" / "config.json").write_text('{"word_embedding_dimension": 8}')
    recipe = {"method": "linear", "sources": [{"path": str(model)}, {"path": str(tiny_llama(tmp_path / "b", 1))}]}
    merge(recipe, tmp_path / "merged")
    (tmp_path / "merged" / "1_Pooling" / "notes.json").write_text("{}")  # not of the merge
    push(tmp_path / "merged", "garden")
    _, files = hub.repos["me/garden"].at("main") or ("", {})
    assert [name for name in files if "/" in name] == ["1_Pooling/config.json"]
    pull("me/garden")
    assert (Path("garden") / "1_Pooling" / "config.json").read_text() == '{"word_embedding_dimension": 8}'
    record = json.loads(Path("garden/mmgrid.json").read_text())
    assert "1_Pooling/config.json" in record["files"]
    assert damaged_files(Path("garden"), record["files"]) == {}


def test_a_compressed_checkpoint_is_pushed_as_a_plain_one(hub: Hub, model: Path, tmp_path: Path) -> None:
    near = tiny_llama(tmp_path / "near", 1, near=model)
    compress(near, model, tmp_path / "small")
    answer = mmgrid("push", tmp_path / "small", "--repo", "garden")
    assert answer.code == 0, answer.err
    _, files = hub.repos["me/garden"].at("main") or ("", {})
    names = ["README.md", "SHA256SUMS", "config.json", "model.safetensors", "tokenizer.json"]
    assert sorted(files) == [".gitattributes", *names]
    expand(tmp_path / "small", tmp_path / "plain")
    assert files["model.safetensors"] == (tmp_path / "plain/model.safetensors").read_bytes()


def test_a_cell_is_pushed_with_its_results(hub: Hub, built: Built, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a cell of .*; to publish it, name no grid"):
        face.push(tmp_path, "me/semb", grid=built.grid, store=built.root)
    before = bytes_below(built.folder("checkpoint/semb/garden/phase2"))
    url = face.push("checkpoint/semb/garden/phase2", "me/semb", grid=built.grid, store=built.root, private=True)
    assert url == f"{hub.url}/me/semb"
    assert hub.repos["me/semb"].private
    assert bytes_below(built.folder("checkpoint/semb/garden/phase2")) == before
    folder = face.pull("me/semb", tmp_path / "here")
    found = ModelCard((folder / "README.md").read_text())
    rows = face.results(built.grid, store=built.root).filter(
        paradigm="semb", domain="garden", model="phase2", group="all"
    )
    known = {row["metric"]: round(row["value"], 2) for row in rows.to_dicts()}
    assert {one.metric_type: one.metric_value for one in found.data.eval_results or ()} == known
    assert (folder / "mmgrid.json").is_file()
    assert not (folder / "record.json").exists()
    data = built.folder("corpus/garden")
    expected = face.open_checkpoint(built.folder("checkpoint/semb/garden/phase2")).recommend([_history(data)], data, 3)
    assert face.open_checkpoint("me/semb").recommend([_history(data)], data, 3) == expected  # straight from the Hub


def _history(data: Path) -> list[str]:
    from mmgrid.data import Corpus

    return Corpus.load(data).catalogue.ids[:3].tolist()


def test_a_store_of_an_earlier_version_has_no_cards(hub: Hub, copied: Built) -> None:
    folder = copied.folder("checkpoint/sasrec/garden/phase2")
    card = (folder / "README.md").read_text()
    (folder / "README.md").unlink()
    push(folder, "me/old")
    _, files = hub.repos["me/old"].at("main") or ("", {})
    assert files["README.md"].decode() == card.replace('("."', '("me/old"')
    assert not (folder / "README.md").exists()


def test_nothing_private_is_published(hub: Hub, model: Path, tmp_path: Path) -> None:
    facts = {"paradigm": "text", "evaluation": {"embedder": {"model": str(tmp_path / "secret" / "place")}}}
    (model / "mmgrid.json").write_text(json.dumps(facts))
    push(model, "me/garden")
    _, files = hub.repos["me/garden"].at("main") or ("", {})
    assert not [name for name, data in files.items() if str(tmp_path).encode() in data]
    assert json.loads(files["mmgrid.json"])["evaluation"]["embedder"]["model"] == "place"
    asked = len(hub.asked)
    (model / "notes.json").write_text(json.dumps({"token": TOKEN}))
    with pytest.raises(HubError, match=r"notes.json: contains what looks like a secret \(hf_ttt…\)"):
        push(model, "me/garden")
    assert len(hub.asked) == asked


def test_a_branch_and_a_second_push(hub: Hub, model: Path) -> None:
    push(model, "me/garden")
    sharded = hub.repos["me/garden"]
    sharded.commit({**(sharded.at("main") or ("", {}))[1], "model-00001-of-00002.safetensors": b"old"})
    pushed = push(model, "me/garden@try")
    assert pushed.url == f"{hub.url}/me/garden/tree/try"
    assert "model-00001-of-00002.safetensors" not in (sharded.at("try") or ("", {}))[1]
    assert "model-00001-of-00002.safetensors" in (sharded.at("main") or ("", {}))[1]
    assert pull("me/garden@try", "there").name == pushed.name
    with pytest.raises(HubError, match="exists already and is public"):
        push(model, "me/garden", private=True)


def test_damage_is_found(hub: Hub, model: Path) -> None:
    push(model, "me/garden")
    files = (hub.repos["me/garden"].at("main") or ("", {}))[1]
    hub.repos["me/garden"].commit({**files, "config.json": b"{}"})
    with pytest.raises(HubError, match="config.json is not what was published"):
        pull("me/garden")
    assert not list(Path().glob("garden*"))
    hub.repos["me/garden"].commit({**files, "README.md": b"My own words."})  # anybody may edit the card
    assert pull("me/garden").checked == 3


def test_pull_needs_the_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="while HF_HUB_OFFLINE is set"):
        pull("me/garden")


@pytest.mark.parametrize("token", [None, "hf_" + "x" * 34])
def test_without_a_token_it_says_how_to_get_one(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    with running_hub(tmp_path / "cache", monkeypatch, token=token):
        answer = mmgrid("push", model, "--repo", "me/garden")
    assert answer.code == 1
    assert "run `hf auth login`, or set HF_TOKEN" in answer.err
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("POST", "/api/repos/create", 403, "has no right to write there"),
        ("POST", "/api/repos/create", 429, r"limits requests \(429\): wait 40 seconds"),
        ("POST", "/preupload/", 404, "no model of this name"),
        ("POST", "/preupload/", 429, r"limits requests \(429\): wait 40 seconds"),
        ("POST", "/objects/batch", 500, r"the Hub has a problem \(500\); a commit is made whole or not at all"),
        ("PUT", "/objects/", 503, r"the Hub has a problem \(503\)"),
        ("PUT", "/objects/", 0, "the connection to the Hub failed"),
        ("POST", "/commit/", 412, "changed it on the Hub at the same time"),
        ("POST", "/commit/", 0, "the connection to the Hub failed"),
    ],
)
def test_a_push_that_fails_changes_nothing_and_can_be_repeated(
    hub: Hub, model: Path, method: str, path: str, status: int, words: str
) -> None:
    hub.fail(method, path, status, Retry_After="40")
    with pytest.raises(HubError, match=words) as error:
        push(model, "me/garden")
    assert "\n" not in str(error.value)
    assert all(set(repo.commits[repo.refs["main"]]) <= {".gitattributes"} for repo in hub.repos.values())
    hub.faults.clear()
    uploaded = len(hub.objects)
    push(model, "me/garden")
    assert pull("me/garden").checked == 3
    assert uploaded == 0 or sum(line.startswith("PUT") for line in hub.asked) == 1  # what was there is not sent again


def test_a_cut_upload_is_sent_again(hub: Hub, model: Path) -> None:
    hub.fail("PUT", "/objects/", 0, times=2)
    push(model, "me/garden")
    assert sum(line.startswith("PUT") for line in hub.asked) == 3


def test_a_cut_pull_is_continued(hub: Hub, model: Path) -> None:
    push(model, "me/garden")
    hub.fail("GET", "/resolve/", 503)
    with pytest.raises(HubError, match=r"the Hub has a problem \(503\); what has arrived is kept"):
        pull("me/garden")
    assert not Path("garden").exists()
    hub.faults.clear()
    pull("me/garden")
    assert not Path("garden.work").exists()


def test_wrong_names_and_folders(hub: Hub, model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for call in (
        lambda: push(model, "a/b/c"),
        lambda: push(tmp_path / "empty", "me/garden"),
        lambda: push(tmp_path / "nowhere", "me/garden"),
        lambda: pull("../x"),
    ):
        with pytest.raises(HubError) as error:
            call()
        assert "\n" not in str(error.value)
    assert hub.asked == []
    with pytest.raises(HubError, match="me/nothing: the Hub has no model of this name"):
        pull("me/nothing")
    hub.add("me/data", {"data.csv": b""})
    with pytest.raises(HubError, match="me/data@.*: holds no model"):
        pull("me/data")
