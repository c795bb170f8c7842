"""Recipes: given values override the defaults of the paradigm and of the kind of backbone."""

import re

import pytest
from pydantic import ValidationError

from mmgrid.grid.cells.chains import phase_values
from mmgrid.paradigms import PARADIGMS, PhaseValues
from mmgrid.paradigms.sasrec.spec import SasrecRecipe
from mmgrid.paradigms.semb.spec import SembRecipe


def _resolve(paradigm: str, kind: str = "pretrained", **given):
    return PARADIGMS[paradigm].resolve(given, backbone_kind=kind, history_length=25)


def test_semb_over_a_pretrained_backbone_has_the_papers_numbers() -> None:
    """arXiv 2601.15930, semantic embeddings."""
    recipe = _resolve("semb")
    assert isinstance(recipe, SembRecipe)
    assert recipe.prompt == "Compress the following sentence into embedding:"
    assert (recipe.text_tokens, recipe.negatives, recipe.history_length, recipe.batch_size) == (64, 512, 25, 16)
    assert (recipe.weight_decay, recipe.warmup_ratio, recipe.schedule) == (0.001, 0.1, "cosine")
    pretrain, phase1, phase2 = (recipe.training(phase) for phase in ("pretrain", "phase1", "phase2"))
    assert (pretrain.epochs, pretrain.learning_rate) == (3, 1e-4)
    assert (phase1.epochs, phase1.learning_rate) == (2, 5e-5)
    assert phase2 == phase1


def test_a_tiny_backbone_has_other_defaults() -> None:
    tiny, pretrained = _resolve("semb", "tiny"), _resolve("semb")
    assert tiny.precision == "float32"
    assert tiny.text_tokens < pretrained.text_tokens
    assert tiny.learning_rate.pretrain > pretrained.learning_rate.pretrain
    assert _resolve("sasrec", "tiny") == _resolve("sasrec", "pretrained"), "SASRec has no backbone"


def test_sasrec_is_trained_by_phases_and_in_one_go() -> None:
    recipe = _resolve("sasrec")
    assert isinstance(recipe, SasrecRecipe)
    assert recipe.layers == 2
    assert recipe.training("all").epochs > 0
    with pytest.raises(ValueError, match="no value is given for phase 'all'"):
        _resolve("semb").training("all")


@pytest.mark.parametrize("kind", ["tiny", "pretrained"])
@pytest.mark.parametrize("paradigm", [name for name, spec in PARADIGMS.items() if spec.recipe])
def test_a_value_for_one_phase_leaves_the_others_unchanged(paradigm: str, kind: str) -> None:
    plain, given = _resolve(paradigm, kind), _resolve(paradigm, kind, epochs={"phase2": 7})
    assert given.epochs == plain.epochs.model_copy(update={"phase2": 7})
    assert given.model_copy(update={"epochs": plain.epochs}) == plain


def test_one_number_is_for_all_phases() -> None:
    assert _resolve("semb", "tiny", learning_rate=0.5).learning_rate == PhaseValues(
        pretrain=0.5, phase1=0.5, phase2=0.5
    )
    assert _resolve("semb", least_steps={"phase1": 7}).training("phase1").least_steps == 7
    assert _resolve("semb", least_steps=7).training("pretrain").least_steps == 7
    assert _resolve("sasrec", epochs=4).epochs == PhaseValues(pretrain=4, phase1=4, phase2=4, all=4)


def test_a_given_value_wins_over_every_default() -> None:
    recipe = _resolve("semb", "tiny", precision="bf16", negatives=9, batch_size=2)
    assert (recipe.precision, recipe.negatives, recipe.batch_size) == ("bf16", 9, 2)


def test_the_history_length_is_the_grids() -> None:
    assert PARADIGMS["sasrec"].resolve({}, backbone_kind="tiny", history_length=11).history_length == 11
    assert PARADIGMS["semb"].resolve({}, backbone_kind="tiny", history_length=11).history_length == 11


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"histroy_length": 3}, "histroy_length"),
        ({"epochs": {"phase3": 1}}, "epochs.phase3"),
        ({"epochs": {"phase1": 0}}, "epochs.phase1"),
        ({"epochs": -1}, "epochs.pretrain"),
        ({"epochs": "many"}, "epochs"),
        ({"epochs": True}, "epochs"),
        ({"learning_rate": {"pretrain": "fast"}}, "learning_rate.pretrain"),
        ({"precision": "fp16"}, "precision"),
        ({"schedule": "linear"}, "schedule"),
        ({"negatives": 0}, "negatives"),
        ({"warmup_ratio": 1.0}, "warmup_ratio"),
        ({"weight_decay": float("inf")}, "weight_decay"),
        ({"epochs": float("inf")}, "epochs.pretrain"),
        ({"lora": {"alpha": float("inf")}}, "lora.alpha"),
        ({"lora": {"targets": ""}}, "lora.targets"),
        ({"lora": {"targets": ["all-linear", "q_proj"]}}, "lora.targets"),
    ],
)
def test_the_error_for_an_invalid_value_names_it(given: dict, where: str) -> None:
    with pytest.raises(ValidationError) as caught:
        _resolve("semb", "tiny", **given)
    assert {".".join(str(part) for part in error["loc"]) for error in caught.value.errors()} >= {where}


def test_heads_divide_the_width() -> None:
    with pytest.raises(ValidationError, match="hidden_size 64 must be a multiple of heads 3"):
        _resolve("sasrec", heads=3)


def test_recipes_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        _resolve("semb").negatives = 3


def test_values_of_the_untrained_model() -> None:
    """The values that Θ⁽⁰⁾ depends on: not the learning rate, or each one would need another base."""
    values = PARADIGMS["semb"].base_values
    assert set(values(_resolve("semb"))) == {"prompt", "text_tokens", "title_tokens", "history_length"}
    assert values(_resolve("semb")) == values(_resolve("semb", learning_rate=1, epochs=9, negatives=3))


@pytest.mark.parametrize("paradigm", [name for name, spec in PARADIGMS.items() if spec.recipe])
def test_the_precision_of_evaluations_is_no_value_of_training(paradigm: str) -> None:
    plain, rounded = _resolve(paradigm), _resolve(paradigm, evaluation_precision="bf16")
    assert "evaluation_precision" in rounded.EVALUATION
    assert phase_values(rounded, "pretrain") == phase_values(plain, "pretrain")


def test_a_paradigms_own_values_of_evaluation_are_added_to_the_common_ones() -> None:
    class Own(SembRecipe):
        EVALUATION = ("negatives",)

    assert Own.EVALUATION == ("evaluation_precision", "negatives")
    assert "beam_width" in _resolve("semid").EVALUATION


def test_the_values_of_a_step_are_those_of_the_recipe() -> None:
    given = {"optimizer": "adam", "gradient_clipping": 0.5, "attention": "eager", "compile": True, "order": "time"}
    training = _resolve("semb", **given).training("phase1")
    assert training.max_grad_norm == 0.5
    assert all(getattr(training, name) == value for name, value in given.items() if name != "gradient_clipping")


@pytest.mark.parametrize(
    ("paradigm", "given", "problem"),
    [
        ("semb", {"order": "time", "rehearsal": 0.5}, "rehearsal mixes examples of all times"),
        ("semb", {"attention": "flash_attention_2", "precision": "float32"}, 'bfloat16 only; set precision = "bf16"'),
        ("text", {"engine": "vllm", "evaluation_precision": "bf16"}, "set engine_options = { dtype"),
        ("semid", {"engine": "vllm", "renormalise": "vocabulary"}, 'set renormalise to "level" or "children"'),
        ("semid", {"engine_options": {"dtype": "bfloat16"}}, "engine_options are for vLLM"),
        ("text", {"accumulation": 3}, "batch_size 16 cannot be divided into 3 micro-batches (accumulation)"),
        ("text", {"gradient_clipping": -1}, "greater than or equal to 0"),
        ("text", {"optimizer": "sgd"}, "'adamw', 'adam' or 'adamw_8bit'"),
    ],
)
def test_values_that_do_not_go_together_are_refused(paradigm: str, given: dict, problem: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(problem)):
        _resolve(paradigm, **given)


def test_parts_of_a_batch_with_shared_negatives_need_not_be_alike() -> None:
    assert _resolve("semb", accumulation=3, shared_negatives=True).training("pretrain").accumulation == 1


@pytest.mark.parametrize("paradigm", ["text", "semid"])
def test_trainings_with_micro_batches_have_a_fingerprint_of_their_own(paradigm: str) -> None:
    spec = PARADIGMS[paradigm]
    one, several = (_resolve(paradigm, accumulation=number) for number in (1, 2))
    assert spec.more_training_values(one, "pretrain", "closed") == {}
    assert spec.more_training_values(several, "pretrain", "closed") == {"micro_batches": "averaged"}
