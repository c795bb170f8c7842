"""Vectors from sentence-transformers: an error if the extra is missing; otherwise tested with a tiny model."""

import sys
from pathlib import Path

import numpy as np
import pytest

from kits.small import make_sentence_model
from mmgrid.backbone.sentence_vectors import sentence_vectors


def test_a_missing_extra_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ImportError, match=r"some/model: .* pip install mmgrid\[sentence-transformers\]"):
        sentence_vectors("some/model", ["a text"])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sentence_model(tmp_path_factory.mktemp("sentence_model"))


def test_texts_become_vectors(model: Path) -> None:
    texts = ["a red lamp", "", "a silver kettle of many parts", "a red lamp"]
    vectors = sentence_vectors(model, texts, batch_size=2)
    assert vectors.shape == (4, 32)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors[0], vectors[3], atol=1e-5)
    np.testing.assert_allclose(vectors[2], sentence_vectors(model, texts[2:3])[0], atol=1e-5)
    assert not vectors[1].any()
    assert vectors[0].any()
    assert sentence_vectors(model, []).shape == (0, 32)
    assert sentence_vectors(model, [" "]).tolist() == [[0] * 32]


def test_long_texts_are_cut(model: Path) -> None:
    one, other = sentence_vectors(model, ["red lamp chair", "red lamp kettle robot"], most_tokens=2)
    np.testing.assert_allclose(one, other, atol=1e-6)


class _Encoder:
    """Records the length limit at each call."""

    def __init__(self) -> None:
        self.max_seq_length = 512
        self.lengths: list[int] = []

    def encode(self, texts: list[str], **_: object) -> np.ndarray:
        self.lengths.append(self.max_seq_length)
        return np.ones((len(texts), 3), np.float32)


def test_a_limit_holds_for_one_call_only(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = _Encoder()
    monkeypatch.setattr("mmgrid.backbone.sentence_vectors._open", lambda *_: (encoder, 512))
    for most_tokens in (None, 8, None, 1000):
        sentence_vectors("model", ["a text"], most_tokens=most_tokens)
    assert encoder.lengths == [512, 8, 512, 512]
