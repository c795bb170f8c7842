"""text as a paradigm: its examples, its checkpoints, and recommendations from generated titles."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, Qwen3ForCausalLM

from kits.small import make_backbone, make_tokenizer, text_recipe
from mmgrid.backbone.load import BackboneError
from mmgrid.data import Items, Phase
from mmgrid.paradigms import PARADIGMS
from mmgrid.paradigms.checkpoints import load_checkpoint
from mmgrid.paradigms.facts import CheckpointError
from mmgrid.paradigms.text import paradigm as module
from mmgrid.paradigms.text.engines import HuggingFaceGenerator
from mmgrid.paradigms.text.grounding import Grounding
from mmgrid.paradigms.text.paradigm import Text, TextExamples, own_grounding
from mmgrid.testing.data import PHASE, make_histories, make_items, random_histories

ITEMS = make_items(40)
TOKENIZER = make_tokenizer(ITEMS)


def _made(tokenizer=TOKENIZER, **values) -> tuple[Text, PreTrainedModel]:
    return Text.create(text_recipe(**values), make_backbone(tokenizer, head=True), tokenizer)


class FixedTitles:
    """Generates the same titles for each prompt, and records the prompts."""

    def __init__(self, *titles: str):
        self.fixed = list(titles)
        self.prompts: list[str] = []

    def titles(self, prompts: Sequence[Sequence[int]], n: int) -> list[list[str]]:
        self.prompts += [TOKENIZER.decode(prompt) for prompt in prompts]
        assert n == len(self.fixed)
        return [self.fixed for _ in prompts]


def test_over_a_pretrained_backbone_the_recipe_has_the_papers_numbers() -> None:
    """arXiv 2601.15930, text-grounded recommendation."""
    recipe = PARADIGMS["text"].resolve({}, backbone_kind="pretrained", history_length=30)
    assert (recipe.titles, recipe.title_tokens, recipe.text_tokens, recipe.batch_size) == (5, 32, 64, 16)
    assert (recipe.most_targets("pretrain"), recipe.most_targets("phase1"), recipe.earlier_items) == (5, None, 4)
    pretrain, phase1, phase2 = (recipe.training(phase) for phase in ("pretrain", "phase1", "phase2"))
    assert (pretrain.epochs, pretrain.learning_rate, pretrain.warmup_steps, pretrain.schedule) == (
        3,
        5e-5,
        50,
        "cosine",
    )
    assert (phase1.epochs, phase1.learning_rate) == (2, 1e-5)
    assert phase2 == phase1


class TestExamples:
    def _examples(self, phase: Phase = PHASE, **values) -> TextExamples:
        paradigm, _ = _made(**values)
        return paradigm.examples(make_histories([list(range(9)), list(range(20, 32))]), ITEMS, phase, seed=0)

    def test_pretrain_takes_some_targets_of_a_user_and_later_phases_all(self) -> None:
        assert len(self._examples()) == 5 + 5
        assert len(self._examples(Phase("phase1", 0, PHASE.end))) == 5 + 8
        assert len(self._examples(targets_per_user=2)) == 2 + 2
        assert len(self._examples(Phase("phase1", 0, PHASE.end), earlier_items=8)) == 1 + 4

    def test_the_question_is_the_newest_of_what_came_before_and_the_answer_is_the_title(self) -> None:
        examples = self._examples(Phase("phase1", 0, PHASE.end), text_tokens=60, title_tokens=40, prompt="Next?")
        dialogue = examples.draw(5 + 7, 0)  # the last item of the second user, 31, behind 25 to 30
        question = "Next?\n"
        for item in range(25, 31):
            question += f"Title: {ITEMS.titles[item]}\n"
            question += f"Description: {ITEMS.descriptions[item]}\n" if item % 2 else ""
        assert TOKENIZER.decode(dialogue.tokens) == f"{question}\nTitle: {ITEMS.titles[31]}\n"
        assert TOKENIZER.decode(dialogue.tokens[dialogue.is_answer]) == f" {ITEMS.titles[31]}\n"

    def test_a_batch_is_learned_from_the_answers_alone(self) -> None:
        examples = self._examples()
        drawn = [examples.draw(index, 0) for index in range(len(examples))]
        labels = examples.collate(drawn)["labels"]
        answers = [f" {ITEMS.titles[examples.targets.item(index)]}\n" for index in range(len(examples))]
        assert TOKENIZER.decode(labels) == "".join(answers)


class TestEveryPosition:
    def test_each_target_of_a_window_is_answered_once(self) -> None:
        paradigm, _ = _made(every_position=True)
        histories = make_histories([list(range(9)), list(range(20, 32)), [5]])
        examples = paradigm.examples(histories, ITEMS, PHASE, seed=0)
        drawn = [examples.draw(index, 0) for index in range(len(examples))]
        assert len(drawn) == 2 + 2, "windows of six targets; nothing comes before a user's first item"
        answers = "".join(TOKENIZER.decode(dialogue.tokens[dialogue.is_answer]) for dialogue in drawn)
        answered = [title.strip() for title in answers.splitlines()]
        assert sorted(answered) == sorted(ITEMS.titles[item] for item in [*range(1, 9), *range(21, 32)])

    def test_prompts_have_the_form_of_training(self) -> None:
        paradigm, model = _made(every_position=True)
        paradigm.generator = FixedTitles("a", "b", "c")
        paradigm.titles(model, make_histories([[3, 4]]), ITEMS)
        (prompt,) = paradigm.generator.prompts
        assert prompt.endswith(f"Title: {ITEMS.titles[4]}\nTitle:") or prompt.endswith(
            f"Description: {ITEMS.descriptions[4]}\nTitle:"
        )

    def test_an_older_checkpoint_without_the_value_has_the_default(self) -> None:
        paradigm, _ = _made()
        older = {name: value for name, value in paradigm.config.items() if name != "every_position"}
        assert Text(older, TOKENIZER).config == paradigm.config


@pytest.mark.parametrize("every_position", [False, True])
def test_the_loss_equals_that_of_padded_rows(every_position: bool) -> None:
    paradigm, model = _made(every_position=every_position)
    model.eval()
    examples = paradigm.examples(random_histories(30, 40), ITEMS, PHASE, seed=0)
    drawn = [examples.draw(index, 0) for index in range(12)]
    width = max(map(len, drawn))
    ids, labels = torch.zeros(12, width, dtype=torch.long), torch.full((12, width), -100)
    for row, dialogue in enumerate(drawn):
        ids[row, : len(dialogue)] = torch.from_numpy(dialogue.tokens)
        labels[row, : len(dialogue)] = torch.from_numpy(np.where(dialogue.is_answer, dialogue.tokens, -100))
    expected = model(ids, attention_mask=labels.new_ones(ids.shape), labels=labels).loss
    torch.testing.assert_close(paradigm.loss(model, examples.collate(drawn)), expected, rtol=1e-5, atol=1e-5)


class TestCheckpoint:
    def test_is_a_plain_language_model(self, tmp_path: Path) -> None:
        paradigm, model = _made()
        paradigm.save(model, tmp_path)
        config = json.loads((tmp_path / "config.json").read_text())
        assert config["model_type"] == "qwen3"
        assert config["mmgrid"] == {
            "paradigm": "text",
            "prompt": paradigm.recipe.prompt,
            "text_tokens": 12,
            "title_tokens": 10,
            "history_length": 6,
            "every_position": False,
        }
        assert type(AutoModelForCausalLM.from_pretrained(str(tmp_path))) is Qwen3ForCausalLM

    def test_is_recognised_by_its_paradigm_before_its_model_type(self, tmp_path: Path) -> None:
        paradigm, model = _made()
        paradigm.save(model, tmp_path)
        opened, _ = load_checkpoint(tmp_path)
        assert isinstance(opened, Text)
        assert opened.config == paradigm.config
        config = json.loads((tmp_path / "config.json").read_text())
        config["mmgrid"]["paradigm"] = "poem"
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(CheckpointError, match="unknown paradigm 'poem'.* known are text, semid"):
            load_checkpoint(tmp_path)

    def test_prompts_come_from_the_checkpoint_and_not_from_the_recipe(self, tmp_path: Path) -> None:
        paradigm, model = _made(prompt="Next?")
        paradigm.save(model, tmp_path)
        opened, _ = Text.load(tmp_path, text_recipe(prompt="Other?", titles=1, title_tokens=2))
        assert opened.recipe.titles == 1
        question = TOKENIZER.decode(opened.prompts(ITEMS).question(np.array([0])))
        assert question == TOKENIZER.decode(paradigm.prompts(ITEMS).question(np.array([0])))

    def test_without_the_values_of_prompts_is_refused(self, tmp_path: Path) -> None:
        make_backbone(TOKENIZER, head=True).save_pretrained(str(tmp_path))
        TOKENIZER.save_pretrained(str(tmp_path))
        with pytest.raises(ValueError, match=r"config\.json lacks `mmgrid\.prompt`; is this a text checkpoint\?"):
            Text.load(tmp_path)


def test_a_backbone_in_which_packed_dialogues_affect_each_other_is_refused() -> None:
    backbone = make_backbone(TOKENIZER, head=True)
    backbone.get_decoder().layers[1].register_forward_hook(lambda _module, _inputs, hidden: hidden + hidden.roll(1, 1))
    with pytest.raises(BackboneError, match="depend on other dialogues in the row"):
        Text.create(text_recipe(), backbone, TOKENIZER)


class TestRecommending:
    HISTORIES = make_histories([[1, 2, 3, 4, 5, 6, 7, 8], [9]])

    def _recommend(self, *titles: str, items: Items = ITEMS, **values) -> tuple[Text, np.ndarray, np.ndarray]:
        paradigm, model = _made(titles=len(titles), **values)
        paradigm.generator = FixedTitles(*titles)
        return paradigm, *paradigm.recommend(model, self.HISTORIES, items, 5)

    def test_items_whose_titles_were_generated_come_first(self) -> None:
        _, best, scores = self._recommend(ITEMS.titles[20], "a kettle of nothing", ITEMS.titles[30])
        assert best[:, :2].tolist() == [[20, 30], [20, 30]]
        assert (scores[:, :2] == 0).all()
        assert (scores[:, 2:] < 0).all()

    def test_items_of_the_history_are_left_out(self) -> None:
        _, best, scores = self._recommend(ITEMS.titles[9])
        assert best[0, 0] == 9
        assert 9 not in best[1]
        assert scores[1, 0] < 0

    def test_prompts_contain_the_newest_items_of_the_history(self) -> None:
        paradigm, *_ = self._recommend("drum")
        prompts = paradigm.generator.prompts
        assert ITEMS.titles[2] not in prompts[0]
        assert [ITEMS.titles[item] in prompts[0] for item in range(3, 9)] == [True] * 6
        assert prompts[1].count("Title:") == 2, "one item, and the answer's label"

    def test_a_generated_cut_title_counts_as_the_full_title(self) -> None:
        titles = ["QZ" * 20, "XJ" * 20, *ITEMS.titles[2:]]
        items = Items(ITEMS.ids, titles, ITEMS.descriptions, ITEMS.candidates)
        _, best, scores = self._recommend("QZ" * 4 + "Q", items=items)
        assert best[:, 0].tolist() == [0, 0]
        assert (scores[:, 0] == 0).all()

    def test_a_grounding_that_is_set_is_used(self) -> None:
        paradigm, model = _made(titles=1)
        paradigm.generator = FixedTitles("no title of any item")
        vectors = np.linspace(0, 1, 40, dtype=np.float32)[:, None]
        paradigm.grounding = Grounding(vectors, lambda texts: np.full((len(texts), 1), 0.5, np.float32))
        best, _ = paradigm.recommend(model, self.HISTORIES, ITEMS, 4)
        assert sorted(best[0].tolist()) == [18, 19, 20, 21], "the nearest to the middle"
        ranks = paradigm.rank(model, self.HISTORIES, ITEMS, np.array([39, 0]))
        assert (ranks >= 30).all()

    def test_popular_items_rank_higher_and_popularity_must_be_known(self) -> None:
        paradigm, plain, _ = self._recommend("made up", popularity_gamma=0.0)
        paradigm.popularity = np.ones(40, np.float32)
        paradigm.popularity[plain[0, 4]] = 1000.0
        _, model = _made()
        same, _ = paradigm.recommend(model, self.HISTORIES, ITEMS, 5)
        assert (same == plain).all(), "gamma is 0"
        paradigm.recipe = text_recipe(titles=1, popularity_gamma=0.25)
        best, _ = paradigm.recommend(model, self.HISTORIES, ITEMS, 5)
        assert best[0, 0] == plain[0, 4]
        paradigm.popularity = None
        with pytest.raises(ValueError, match=r"popularity_gamma is 0\.25, but no popularity is known"):
            paradigm.recommend(model, self.HISTORIES, ITEMS, 5)

    def test_vllm_reads_the_given_model_from_a_folder(self, monkeypatch) -> None:
        class FromFolder(HuggingFaceGenerator):
            closed: list[tuple[Path, dict]] = []

            def __init__(self, folder: Path, *, title_tokens: int, **options):
                _, model = Text.load(folder)
                super().__init__(model, TOKENIZER, title_tokens=title_tokens)
                self.folder, self.options = folder, options

            def close(self) -> None:
                self.closed.append((self.folder, self.options))

        monkeypatch.setattr(module, "VllmGenerator", FromFolder)
        paradigm, model = _made()
        expected = paradigm.titles(model, self.HISTORIES, ITEMS)
        paradigm.seed = 3
        paradigm.recipe = text_recipe(engine="vllm", engine_options={"dtype": "bfloat16"})
        assert paradigm.titles(model, self.HISTORIES, ITEMS) == expected
        ((folder, options),) = FromFolder.closed
        assert not folder.exists()
        assert options == {"dtype": "bfloat16", "seed": 3}

    @pytest.mark.parametrize(
        ("engine", "options", "message"),
        [
            ("huggingface", {"dtype": "bfloat16"}, "engine_options are for vLLM"),
            ("vllm", {"title_tokens": 3}, "title_tokens is set by the recipe, the grid or the checkpoint"),
            ("vllm", {"seed": 3}, "seed is set by the recipe, the grid or the checkpoint"),
            ("vllm", {"temperature": float("nan")}, "engine_options: Out of range float"),
        ],
    )
    def test_options_that_vllm_cannot_take_are_refused(self, engine: str, options: dict, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            text_recipe(engine=engine, engine_options=options)

    def test_the_model_returns_to_its_device_if_the_engine_fails(self, monkeypatch) -> None:
        places: list[str] = []

        def fails(*_: object, **__: object) -> None:
            places.append("engine")
            raise RuntimeError("no memory")

        monkeypatch.setattr(module, "VllmGenerator", fails)
        paradigm, model = _made()
        monkeypatch.setattr(model, "to", lambda place: places.append(str(place)))
        paradigm.recipe = text_recipe(engine="vllm")
        with pytest.raises(RuntimeError, match="no memory"):
            paradigm.titles(model, self.HISTORIES, ITEMS)
        assert places == ["cpu", "engine", "cpu"], "the model was on the CPU here"


class TestOwnGrounding:
    def test_titles_of_the_catalogue_and_others_lie_in_one_space(self) -> None:
        _, model = _made()
        grounding = own_grounding(model, TOKENIZER, ITEMS, 10)
        np.testing.assert_allclose(grounding.embed(ITEMS.titles), grounding.vectors, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(grounding.vectors, axis=1), 1, atol=1e-5)
        assert grounding.embed([]).shape == (0, 32)

    def test_items_of_one_title_have_one_vector(self) -> None:
        _, model = _made()
        items = Items(ITEMS.ids, [*ITEMS.titles[:20], *ITEMS.titles[:20]], ITEMS.descriptions, ITEMS.candidates)
        vectors = own_grounding(model, TOKENIZER, items, 10).vectors
        assert (vectors[:20] == vectors[20:]).all()
        assert len(np.unique(vectors, axis=0)) == 20
