"""RQ-VAE: training lowers the error, the loss follows its formula, the last level is balanced, the seed decides."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mmgrid.semantic_ids.quantiser import fit_codebook, load_codebook
from mmgrid.semantic_ids.recipes import RqVaeRecipe
from mmgrid.semantic_ids.rqvae import RqVae
from mmgrid.semantic_ids.rqvae_training import quantise

torch.set_num_threads(1)  # networks this small lose more by a second thread than they gain


def _recipe(**values) -> RqVaeRecipe:
    few = {"levels": 3, "codes": 8, "hidden": (32, 16), "width": 8, "steps": 200, "batch_size": 64}
    return RqVaeRecipe(**{**few, **values})


def _vectors(n: int = 300, width: int = 24, seed: int = 0) -> np.ndarray:
    """Vectors near a four-dimensional subspace, far from zero."""
    rng = np.random.default_rng(seed)
    plane = rng.normal(size=(n, 4)) @ rng.normal(size=(4, width))
    return (20 + plane + 0.05 * rng.normal(size=(n, width))).astype(np.float32)


@pytest.fixture(scope="module")
def fitted() -> RqVae:
    codebook = fit_codebook(_vectors(), _recipe(), seed=0)
    assert isinstance(codebook, RqVae)
    return codebook


def test_training_lowers_the_error_and_so_does_each_level(fitted: RqVae) -> None:
    vectors = _vectors()
    variance = np.square(vectors - vectors.mean(0)).sum()

    def left(codebook: RqVae, levels: int) -> float:
        return float(np.square(vectors - codebook.decode(codebook.encode(vectors)[:, :levels])).sum() / variance)

    short = fit_codebook(vectors, _recipe(steps=1), seed=0)
    assert left(fitted, 3) < 0.5 < 0.9 < left(short, 3)
    assert left(fitted, 3) < left(fitted, 2) < left(fitted, 1) < 1


def test_gradients_follow_the_formula() -> None:
    """By hand, for one vector on two levels: the sum has a straight-through gradient, each codeword moves towards its
    residual, and the latent vector, with factor β, towards the sums of codewords."""
    latents = torch.tensor([[1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    words = torch.tensor([[[0.0, 0.0], [1.0, 1.0]], [[0.0, 0.5], [9.0, 9.0]]], dtype=torch.float64, requires_grad=True)
    recipe = _recipe(levels=2, codes=2, width=2, beta=0.25, sinkhorn_epsilon=0)
    total, loss = quantise(latents, words, recipe)
    assert total.tolist() == [[1.0, 1.5]]
    first, second = torch.tensor([0.0, 1.0]), torch.tensor([0.0, 0.5])  # residual minus word, on each level
    assert loss.item() == pytest.approx((1.25 * first.square().mean() + 1.25 * second.square().mean()).item() / 2)
    (3 * total.sum() + loss).backward()
    assert latents.grad is not None
    assert words.grad is not None
    expected = 3 + 0.25 * (first + second) / 2  # the mean over W = 2 halves the 2 of each square; 2 levels
    torch.testing.assert_close(latents.grad[0], expected.double())
    torch.testing.assert_close(words.grad[0], torch.stack([torch.zeros(2), -first / 2]).double())
    torch.testing.assert_close(words.grad[1], torch.stack([-second / 2, torch.zeros(2)]).double())


def test_only_the_last_level_is_balanced() -> None:
    """Four equal residuals: unbalanced, all get one codeword; balanced, the last level separates nearly equal ones."""
    latents = torch.tensor([[1.0], [1.01], [1.02], [1.03]])
    words = torch.tensor([[[1.0], [5.0]], [[0.0], [0.5]]])
    plain, _ = quantise(latents, words, _recipe(levels=2, codes=2, width=1, sinkhorn_epsilon=0))
    assert plain[:, 0].tolist() == pytest.approx([1.0] * 4)
    even, _ = quantise(latents, words, _recipe(levels=2, codes=2, width=1, sinkhorn_epsilon=0.01))
    assert even[:, 0].tolist() == pytest.approx([1.0, 1.0, 1.5, 1.5])


def test_a_deep_network_does_not_shrink_its_input_at_initialisation() -> None:
    """Latents near zero would be one point to the k-means that initialises the codewords."""
    vectors = _vectors()
    deep = _recipe(hidden=(64,) * 6, steps=1, learning_rate=1e-12)
    codebook = fit_codebook(vectors, deep, seed=0)
    assert isinstance(codebook, RqVae)
    length = np.sqrt(np.square(codebook.scale.apply(vectors)).sum(1).mean())
    assert np.sqrt(np.square(codebook.latents(vectors)).sum(1).mean()) > 0.03 * length
    assert len(np.unique(codebook.encode(vectors)[:, 0])) == 8


def test_codewords_are_initialised_to_k_means_centres() -> None:
    vectors = _vectors()
    codebook = fit_codebook(vectors, _recipe(steps=1, learning_rate=1e-12, weight_decay=0), seed=0)
    assert isinstance(codebook, RqVae)
    latents, codes = codebook.latents(vectors), codebook.encode(vectors)
    for code in range(8):
        of_code = latents[codes[:, 0] == code]
        assert len(of_code), "every word codes something"
        np.testing.assert_allclose(codebook.codewords.words[0, code], of_code.mean(0), atol=2e-3)


def test_the_seed_determines_the_result_and_the_global_generator_stays(fitted: RqVae) -> None:
    vectors = _vectors()
    state = torch.get_rng_state()
    again = fit_codebook(vectors, _recipe(), seed=0)
    torch.rand(3)  # draws in between change nothing
    assert isinstance(again, RqVae)
    assert np.array_equal(again.codewords.words, fitted.codewords.words)
    assert np.array_equal(again.encode(vectors), fitted.encode(vectors))
    torch.set_rng_state(state)
    dropped = [fit_codebook(vectors, _recipe(steps=20, dropout=0.1), seed) for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    codes = [codebook.encode(vectors) for codebook in dropped]
    assert np.array_equal(codes[0], codes[1])
    assert not np.array_equal(codes[0], codes[2])


def test_a_saved_codebook_encodes_as_before(fitted: RqVae, tmp_path: Path) -> None:
    vectors = _vectors(50, seed=1)
    fitted.save(tmp_path)
    loaded = load_codebook(tmp_path)
    codes = loaded.encode(vectors)
    assert np.array_equal(codes, fitted.encode(vectors))
    assert np.array_equal(loaded.decode(codes[:, :2]), fitted.decode(codes[:, :2]))
    assert np.array_equal(loaded.last_level_distances(vectors, codes), fitted.last_level_distances(vectors, codes))
    assert np.array_equal(loaded.reassign_collisions(vectors, codes), fitted.reassign_collisions(vectors, codes))
    head = json.loads((tmp_path / "codebook.json").read_text())
    head["recipe"]["hidden"] = [32, 17]
    (tmp_path / "codebook.json").write_text(json.dumps(head))
    with pytest.raises(ValueError, match="weights and recipe do not fit together"):
        load_codebook(tmp_path)


@pytest.mark.parametrize("n", [1, 5])
def test_few_and_equal_vectors_can_be_fitted(n: int) -> None:
    vectors = np.full((n, 6), 3.0, np.float32)
    codebook = fit_codebook(vectors, _recipe(steps=3), seed=0)
    codes = codebook.encode(vectors)
    assert len(np.unique(codes, axis=0)) == 1
    assert np.isfinite(codebook.decode(codes)).all()
    assert codebook.encode(vectors[:0]).shape == (0, 3)
    assert codebook.decode(codes[:0]).shape == (0, 6)


def test_a_diverging_loss_is_an_error_that_names_the_learning_rate() -> None:
    with pytest.raises(ValueError, match="lower learning_rate"):
        fit_codebook(_vectors(), _recipe(learning_rate=1e30, steps=5), seed=0)
