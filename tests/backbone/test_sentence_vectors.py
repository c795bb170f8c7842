"""Vectors from sentence-transformers: an error if the extra is missing; otherwise tested with a tiny model."""

import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file

from kits.small import make_sentence_model
from mmgrid.backbone import sentence_vectors as module
from mmgrid.backbone.sentence_vectors import sentence_vectors
from mmgrid.backbone.text_embedder import TextEmbedder


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


def test_a_prompt_stands_before_each_text_and_its_tokens_do_not_count(model: Path) -> None:
    """With mean pooling over prompt and text, the vectors are those of the two as one text."""
    texts = ["red lamp", "kettle"]
    found = sentence_vectors(model, texts, prompt="silver ", most_tokens=2)
    together = sentence_vectors(model, [f"silver {text}" for text in texts])
    np.testing.assert_allclose(found, together, atol=1e-5)
    assert not np.allclose(found, sentence_vectors(model, texts), atol=1e-3)


def test_weights_in_bfloat16_give_nearly_the_same_vectors_in_float32(model: Path) -> None:
    texts = ["a red lamp", "a silver kettle of many parts"]
    exact, rounded = (sentence_vectors(model, texts, dtype=dtype) for dtype in ("float32", "bfloat16"))
    assert rounded.dtype == np.float32
    cosine = (exact * rounded).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rounded, axis=1)
    assert (cosine > 0.99).all()
    assert not np.array_equal(exact, rounded)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_have_the_type_that_is_said_however_they_are_stored(model: Path, tmp_path: Path, dtype: str) -> None:
    """Qwen3-Embedding, for one, is stored in bfloat16."""
    for stored in (torch.float32, torch.bfloat16):
        folder = shutil.copytree(model, tmp_path / str(stored))
        for file in folder.rglob("*.safetensors"):
            tensors = {name: tensor.to(stored) for name, tensor in load_file(file).items()}
            save_file(tensors, file, {"format": "pt"})
        config = folder / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"dtype": str(stored).removeprefix("torch.")}))
        encoder, _ = module._open(str(folder), None, dtype)
        assert {str(weight.dtype) for weight in encoder.parameters()} == {f"torch.{dtype}"}


def test_one_copy_waits_for_another_and_is_freed(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locks: list[Any] = []

    def lock(place: Path) -> Any:
        locks.append(FileLock(place))
        return locks[-1]

    monkeypatch.setattr(module, "FileLock", lock)
    expected = sentence_vectors(model, ["a red lamp"])
    assert module._open.cache_info().currsize == 1, "kept for the next call"
    embed = TextEmbedder(model, "sentence-transformers", one_copy=True)
    np.testing.assert_allclose(embed(["a red lamp"]), expected, atol=1e-6)
    assert module._open.cache_info().currsize == 0
    with ThreadPoolExecutor(1) as pool:
        with FileLock(locks[-1].lock_file):
            waiting = pool.submit(embed, ["a red lamp"])
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.3)
        np.testing.assert_allclose(waiting.result(timeout=60), expected, atol=1e-6)
