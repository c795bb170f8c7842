"""The two-tower model: its loss against a slow one, its towers against the backbone, and its folder."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor
from transformers import AutoConfig, AutoModel

from kits.small import child_environment, make_backbone, make_tokenizer, semb_recipe
from mmgrid.backbone.load import BackboneError
from mmgrid.paradigms.semb.model import LARGEST_SCALE, SembConfig, SembModel, contrastive_logits
from mmgrid.paradigms.semb.paradigm import Semb
from mmgrid.paradigms.shared.packing import pack
from mmgrid.testing.data import PHASE, make_items, random_histories, same_weights

ITEMS = make_items(40)
TOKENIZER = make_tokenizer(ITEMS)


def _made(layers: int = 3, **values) -> tuple[Semb, SembModel]:
    return Semb.create(semb_recipe(**values), make_backbone(TOKENIZER, layers), TOKENIZER, seed=0)


def slow_loss(
    predicted: Tensor, positives: Tensor, negatives: Tensor, log_chance: Tensor, own: Tensor, log_scale: float
) -> tuple[float, float]:
    """The loss by its definition, in float64, one target and one negative at a time; and the share masked."""

    def cosine(one: Tensor, other: Tensor) -> float:
        return float(one @ other / (one.norm() * other.norm()))

    scale = math.exp(min(log_scale, math.log(100)))
    losses, masked, others = [], 0, 0
    for user, positive in zip(predicted.double(), positives.double(), strict=True):
        logit = scale * cosine(user, positive)
        total = math.exp(logit)
        for negative, correction, is_own in zip(negatives.double(), log_chance.double(), own[len(losses)], strict=True):
            if is_own:
                continue
            others += 1
            if cosine(positive, negative) > 0.99:
                masked += 1
            else:
                total += math.exp(scale * cosine(user, negative) - float(correction))
        losses.append(math.log(total) - logit)
    return sum(losses) / len(losses), masked / others


def _vectors(*rows: int, seed: int = 0) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(count, 8, generator=draw) for count in rows]


def contrastive_loss(*arguments: Tensor) -> tuple[Tensor, Tensor]:
    """The mean loss over targets, and the share of masked negatives."""
    logits, masked = contrastive_logits(*arguments)
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long)), masked


def _none(predicted: Tensor, negatives: Tensor) -> Tensor:
    return torch.zeros(len(predicted), len(negatives), dtype=torch.bool)


class TestContrastiveLoss:
    @pytest.mark.parametrize("log_scale", [0.0, math.log(1 / 0.07), 4.0, 9.0])
    def test_equals_the_slow_one(self, log_scale: float) -> None:
        predicted, positives, negatives, chance = _vectors(7, 7, 30, 30)
        log_chance = chance[:, 0] - 1
        negatives[3] = positives[2] * 2.5  # the same item, whatever its length
        own = chance[:, :7].T > 1.5
        assert 0 < own.sum() < own.numel()
        own[2, 3] = False
        found, masked = contrastive_loss(predicted, positives, negatives, log_chance, own, torch.tensor(log_scale))
        expected, share = slow_loss(predicted, positives, negatives, log_chance, own, log_scale)
        assert found.item() == pytest.approx(expected, rel=1e-5)
        assert masked.item() == pytest.approx(share)
        assert 1 / 210 < share < 1 / 50

    def test_a_negative_equal_to_the_positive_does_not_count(self) -> None:
        predicted, positives, negatives = _vectors(5, 5, 20)
        scale, none = torch.tensor(2.0), torch.zeros(20)
        loss, _ = contrastive_loss(predicted, positives, negatives, none, _none(predicted, negatives), scale)
        positives.requires_grad_()
        twice = torch.cat([negatives, positives[:1].detach()])
        for copies in (1, 50):
            with_own = torch.cat([twice[:20], twice[20:].repeat(copies, 1)])
            chance, own = torch.zeros(len(with_own)), _none(predicted[:1], with_own)
            first, _ = contrastive_loss(predicted[:1], positives[:1], with_own, chance, own, scale)
            alone, _ = contrastive_loss(predicted[:1], positives[:1], negatives, none, own[:, :20], scale)
            assert first.item() == pytest.approx(alone.item(), rel=1e-6)
        assert loss.item() > 0

    def test_the_loss_is_0_if_all_negatives_are_masked(self) -> None:
        (vectors,) = _vectors(4)
        same = vectors[:1].expand(4, -1)
        loss, masked = contrastive_loss(vectors, same, same, torch.zeros(4), _none(vectors, same), torch.tensor(1.0))
        assert (loss.item(), masked.item()) == (0, 1)

    def test_corrected_negatives_give_the_full_softmax_on_average(self) -> None:
        """Drawn with unequal probabilities and divided by them, the sum over negatives has the full sum as its mean."""
        predicted, items = _vectors(1, 40, seed=3)
        scale, chance = torch.tensor(1.0), torch.linspace(0.1, 0.9, 39)
        logits = (F.normalize(predicted, dim=-1) @ F.normalize(items, dim=-1).T)[0] * math.e
        total = logits[1:].exp().sum().item()
        draw = torch.Generator().manual_seed(0)
        sums = []
        for _ in range(3000):
            drawn = torch.rand(39, generator=draw) < chance
            others = items[1:][drawn]
            loss, _ = contrastive_loss(
                predicted, items[:1], others, chance[drawn].log(), _none(predicted, others), scale
            )
            sums.append(math.exp(loss.item() + logits[0].item()) - logits[0].exp().item())
        assert np.mean(sums) == pytest.approx(total, abs=4 * np.std(sums) / math.sqrt(3000))

    def test_is_computed_in_float32_under_bfloat16(self) -> None:
        predicted, positives, negatives = _vectors(50, 50, 300)
        scale, own = torch.tensor(LARGEST_SCALE), _none(predicted, negatives)
        arguments = (predicted, positives, negatives, torch.zeros(300), own, scale)
        exact, _ = contrastive_loss(*arguments)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found, _ = contrastive_loss(*arguments)
        assert found.item() == exact.item()


class TestForward:
    def _batch(self, paradigm: Semb, epoch: int = 0, n: int = 8) -> dict[str, Tensor]:
        examples = paradigm.examples(random_histories(30, 40), ITEMS, PHASE, seed=0)
        return examples.collate([examples.draw(index, epoch) for index in range(n)])

    @pytest.mark.parametrize("batch_negatives", [False, True])
    @torch.no_grad()
    def test_equals_item_by_item_and_user_by_user(self, batch_negatives: bool) -> None:
        """From the histories themselves: every item encoded alone, every user alone, no padding anywhere."""
        paradigm, model = _made(batch_negatives=batch_negatives)
        model.eval()
        examples = paradigm.examples(random_histories(30, 40), ITEMS, PHASE, seed=0)
        drawn = [examples.draw(index, 0) for index in range(8)]
        batch = examples.collate(drawn)
        table = paradigm.tokens(ITEMS)
        vector = [model.encode_items(**pack(table, np.array([row]), 1).tensors())[0] for row in range(40)]
        predicted, positives, histories = [], [], []
        for sequence, n_context, _ in drawn:
            states = model.encode_users(torch.stack([vector[row] for row in sequence[:-1]])[None])[0]
            for place in range(n_context, len(sequence)):
                predicted.append(states[place - 1])
                positives.append(vector[sequence[place]])
                histories.append(set(sequence))
        pool = np.concatenate([negatives for _, _, negatives in drawn])
        if batch_negatives:
            pool = np.unique(np.concatenate([*(sequence for sequence, _, _ in drawn), pool]))
        expected, masked = slow_loss(
            torch.stack(predicted),
            torch.stack(positives),
            torch.stack([vector[row] for row in pool]),
            batch["log_chance"],
            torch.tensor([[batch_negatives and row in history for row in pool] for history in histories]),
            model.log_scale.item(),
        )
        loss, share = model(**batch)
        assert loss.item() == pytest.approx(expected, rel=2e-5)
        assert share.item() == pytest.approx(masked)

    def test_the_probability_to_be_a_negative_is_the_frequency_over_many_batches(self) -> None:
        """How often each item is among a batch's distinct items, counted over batches of drawn windows."""
        paradigm, _ = _made(batch_negatives=True, negatives=8)
        examples = paradigm.examples(random_histories(60, 40), ITEMS, PHASE, seed=0)
        rng = np.random.default_rng(0)
        seen, given = np.zeros(40), np.zeros(40)
        for batch in range(400):
            drawn = [examples.draw(int(index), batch) for index in rng.integers(len(examples), size=8)]
            distinct = np.unique(np.concatenate([*(d[0] for d in drawn), *(d[2] for d in drawn)]))
            collated = examples.collate(drawn)
            assert len(collated["log_chance"]) == len(distinct)
            seen[distinct] += 1
            given[distinct] = np.exp(collated["log_chance"].numpy())
        assert np.abs(given - seen / 400).mean() < 0.05
        assert np.corrcoef(given, seen)[0, 1] > 0.6

    def test_each_distinct_item_is_encoded_once(self) -> None:
        paradigm, model = _made()
        examples = paradigm.examples(random_histories(30, 40), ITEMS, PHASE, seed=0)
        drawn = [examples.draw(index, 0) for index in range(8)]
        batch = examples.collate(drawn)
        named = np.concatenate([*(sequence for sequence, _, _ in drawn), *(negatives for _, _, negatives in drawn)])
        encoded: list[int] = []
        model.item_tower.register_forward_hook(lambda *_: encoded.append(len(batch["item_places"])))
        model(**batch)
        assert encoded == [len(np.unique(named))], "one call of the item tower, with each item in it once"
        assert len(named) > encoded[0], "otherwise the test shows nothing"
        table = paradigm.tokens(ITEMS)
        tokens = table.lengths(np.unique(named)).sum() + len(np.unique(named))
        assert int((batch["segments"] > 0).sum()) == tokens, "and no other tokens"

    def test_as_many_negatives_as_the_recipe_says_in_every_micro_batch(self) -> None:
        for accumulation in (1, 2, 4):
            paradigm, _ = _made(negatives=24, batch_size=8, accumulation=accumulation)
            assert len(self._batch(paradigm, n=8 // accumulation)["negatives"]) == 24

    def test_the_scale_is_at_most_100_and_can_decrease_again(self) -> None:
        paradigm, model = _made()
        with torch.no_grad():
            model.log_scale.fill_(7.0)
        model.train()
        loss, _ = model(**self._batch(paradigm))
        loss.backward()
        assert model.log_scale.item() == pytest.approx(math.log(100))
        assert model.log_scale.grad is not None
        assert model.log_scale.grad.item() != 0, "a clamp in the loss would have no gradient"


class TestTowers:
    @pytest.mark.parametrize("layers", [1, 2, 3])
    def test_the_user_tower_is_the_first_and_last_layer(self, layers: int) -> None:
        backbone = make_backbone(TOKENIZER, layers)
        _, model = Semb.create(semb_recipe(), backbone, TOKENIZER, seed=0)
        assert same_weights(model.item_tower, backbone)
        assert len(model.user_tower.layers) == 2
        assert same_weights(model.user_tower.layers[0], backbone.layers[0])
        assert same_weights(model.user_tower.layers[1], backbone.layers[layers - 1])
        assert same_weights(model.user_tower.norm, backbone.norm)
        assert not any("embed" in name for name, _ in model.user_tower.named_parameters())
        assert all(weight.shape[0] != len(TOKENIZER) for weight in model.user_tower.parameters())

    def test_theta_zero_depends_on_backbone_and_seed_alone(self) -> None:
        torch.manual_seed(1)
        (_, one), (_, same) = (_made() for _ in range(2))
        _, other = Semb.create(semb_recipe(), make_backbone(TOKENIZER), TOKENIZER, seed=1)
        assert same_weights(one, same)
        assert not one.item_token.equal(other.item_token)
        assert one.log_scale.item() == pytest.approx(math.log(1 / 0.07))

    @torch.no_grad()
    def test_a_later_item_never_changes_an_earlier_state(self) -> None:
        _, model = _made()
        model.eval()
        (history,) = _vectors(10)
        history = history.repeat(1, 4)[None]
        changed = history.clone()
        changed[:, 6:] += 3
        before, after = model.encode_users(history), model.encode_users(changed)
        torch.testing.assert_close(after[:, :6], before[:, :6])
        assert not torch.allclose(after[:, 6:], before[:, 6:])

    @pytest.mark.parametrize("kind", ["Llama", "Mistral", "Gemma2", "Qwen2"])
    @torch.no_grad()
    def test_other_decoders_are_backbones_too(self, kind: str) -> None:
        """Gemma2 among them for its eager attention, which takes another form of mask."""
        backbone = AutoModel.from_config(_config(kind))
        paradigm, model = Semb.create(semb_recipe(), backbone, TOKENIZER, seed=0)
        assert same_weights(model.user_tower.layers[1], backbone.layers[2])
        vectors = paradigm.item_vectors(model, ITEMS)
        table = paradigm.tokens(ITEMS)
        for item in (0, 7, 39):
            text = [*table.prompt, *table.tokens[table.offsets[item] : table.offsets[item + 1]]]
            embedded = torch.cat([backbone.get_input_embeddings()(torch.tensor(text)), model.item_token[None]])
            alone = backbone.eval()(inputs_embeds=embedded[None]).last_hidden_state[0, -1]
            torch.testing.assert_close(vectors[item], alone, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("kind", ["GPT2", "GPTNeoX"])
    def test_a_model_with_other_layer_names_is_refused(self, kind: str) -> None:
        backbone = AutoModel.from_config(_config(kind))
        with pytest.raises(BackboneError, match=r"cannot be the backbone of semb: it must be a decoder"):
            Semb.create(semb_recipe(), backbone, TOKENIZER, seed=0)

    def test_a_model_in_which_packed_items_affect_each_other_is_refused(self) -> None:
        """A convolution over the row, as in hybrid architectures, ignores the attention mask."""

        class Hybrid(SembModel):
            def __init__(self, config: SembConfig):
                super().__init__(config)
                layer = self.item_tower.layers[1]
                layer.register_forward_hook(lambda _module, _inputs, hidden: hidden + hidden.roll(1, dims=1))

        with pytest.raises(BackboneError, match="depends on other items in the row"):
            Hybrid.over(make_backbone(TOKENIZER), seed=0)


def _config(kind: str) -> transformers.PreTrainedConfig:
    return getattr(transformers, f"{kind}Config")(
        vocab_size=len(TOKENIZER),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        initializer_range=0.2,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=0,
    )


class TestFolder:
    def test_opens_by_the_auto_classes_without_remote_code(self, tmp_path) -> None:
        paradigm, model = _made()
        paradigm.save(model, tmp_path)
        config = AutoConfig.from_pretrained(str(tmp_path))
        assert isinstance(config, SembConfig)
        assert config.item_config.num_hidden_layers == 3
        assert config.user_config.num_hidden_layers == 2
        loaded = AutoModel.from_pretrained(str(tmp_path))
        assert type(loaded) is SembModel
        assert same_weights(model, loaded)
        assert not list(tmp_path.glob("*.py"))

    def test_opens_in_a_fresh_process(self, tmp_path) -> None:
        paradigm, model = _made()
        paradigm.save(model, tmp_path)
        histories = random_histories(3, 40)
        best, _ = paradigm.recommend(model, histories, ITEMS, 5)
        script = """
import sys
from pathlib import Path
from transformers import AutoModel, AutoTokenizer
import mmgrid.paradigms.semb.model
model = AutoModel.from_pretrained(sys.argv[1])
from mmgrid.testing.data import make_items, random_histories
from mmgrid.paradigms.semb.paradigm import Semb
paradigm = Semb(model.config, AutoTokenizer.from_pretrained(sys.argv[1]))
print(paradigm.recommend(model, random_histories(3, 40), make_items(40), 5)[0].tolist())
"""
        run = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)],
            capture_output=True,
            text=True,
            env=child_environment(),
            check=False,
        )
        assert run.returncode == 0, run.stderr
        assert run.stdout.strip().splitlines()[-1] == str(best.tolist())
