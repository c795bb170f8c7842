"""What an unfinished batch must have in common with the run that goes on with it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mmgrid.backbone.text_embedder import TextEmbedder
from mmgrid.cli.batch_commands import _identity
from mmgrid.cli.model_commands import Opened
from mmgrid.paradigms.facts import CheckpointFacts
from mmgrid.paradigms.recommender import Recommender


@pytest.fixture
def identity(tmp_path: Path) -> Callable[..., list[object]]:
    for name in ("model", "corpus", "embedder", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file.parquet").write_text("x")

    def of(embedder: TextEmbedder | None = None, values: object = None) -> list[object]:
        model = tmp_path / "model"
        facts = CheckpointFacts(evaluation={"values": values or {}})
        return _identity(
            Opened(Recommender(model, embedder=embedder, facts=facts), tmp_path / "corpus", None, str(model))
        )

    return of


def test_what_changes_the_answers_changes_the_identity(
    identity: Callable[..., list[object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = TextEmbedder(tmp_path / "embedder")
    usual = identity(embedder)
    assert usual == identity(embedder)
    others = [None, TextEmbedder(tmp_path / "other"), TextEmbedder(tmp_path / "embedder", "last-token")]
    different = [usual, *map(identity, others), identity(embedder, {"beams": 3})]
    for name in ("model", "corpus", "embedder"):
        (tmp_path / name / "file.parquet").write_text(f"{name} is another one")
        different.append(identity(embedder))
    monkeypatch.setattr("mmgrid.__version__", "0.0.0")
    different.append(identity(embedder))
    assert len({str(one) for one in different}) == len(different) == 9
