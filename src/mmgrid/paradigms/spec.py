"""The spec of a paradigm: what a grid needs for planning. Imports no torch.

A paradigm has two parts: its spec, and its `Paradigm` (see `contract`), which is imported only when a model is trained
or evaluated. Both may be in one file.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mmgrid.paradigms.micro_batch import MicroBatch
from mmgrid.paradigms.recipe import Compat, Recipe, with_phase_values
from mmgrid.paradigms.work import Work
from mmgrid.plugins import PluginError

if TYPE_CHECKING:
    from mmgrid.backbone.shape import Shape
    from mmgrid.paradigms.contract import Paradigm
    from mmgrid.paradigms.counts import Counts
    from mmgrid.paradigms.layouts import Layout

Need = Literal["codes", "item_vectors", "title_vectors", "embedder"]
"""What a paradigm may need from a grid in addition to the backbone and the domain's corpus.

`codes`: the folder of the domain's semantic IDs. `item_vectors`: float32 [N, D], of titles and descriptions.
`title_vectors`: float32 [N, D], of titles alone. `embedder`: a function that embeds other texts in the same space.
"""


class ParadigmSpec:
    """One paradigm. Subclass it, set the attributes, and declare an instance as an entry point of `mmgrid.paradigms`.

    Attributes:
        name: its name in grid files, cells and results.
        implementation: `module:Class` of its `Paradigm`.
        recipe: the type of its values; None for a paradigm that trains nothing.
        from_backbone: whether its training starts from the grid's language model, through a base Θ⁽⁰⁾ that its
            checkpoints share, so that checkpoints can be merged across domains.
        reads_texts: whether it reads the titles of items although its training does not start from the language model.
        in_one_go: whether it is also trained once on everything before the target phase.
        versions: by kind of cell (`base`, `checkpoint`, `evaluation`), part of the fingerprints; default 1. Raise it
            if a change of the code changes the output of that kind.
        tiny_defaults: replace the recipe's defaults if the backbone is tiny.
        official_defaults: replace the recipe's defaults under `compat = "official"`: the values of the official code.
        official_users: maximum test users under `compat = "official"`.
        training_needs: what the first phase needs for training.
        evaluation_needs: what an evaluation needs.
        own_token_rows: whether each domain keeps its own token rows in a merge (see `mmgrid.merging.BlockTable`).
        towers: name of a tower → patterns of its tensors' names, for models that consist of towers; tensors that fit none
            of them belong to no tower.
        model_type: in its `config.json`, if its model has an own architecture.
        auto_classes: the module whose import registers that architecture with Transformers' Auto classes.
        layouts: the layouts of other projects in which its checkpoints can be read and written.
        seconds: per trained interaction and per evaluated user on one core, for the first estimate of costs; what a
            paradigm needs that does not say what it computes (`training_work`, `evaluation_work`).
    """

    name: ClassVar[str]
    implementation: ClassVar[str]
    recipe: ClassVar[type[Recipe] | None] = None
    from_backbone: ClassVar[bool] = False
    reads_texts: ClassVar[bool] = False
    in_one_go: ClassVar[bool] = False
    versions: ClassVar[Mapping[str, int]] = {}
    tiny_defaults: ClassVar[Mapping[str, Any]] = {}
    official_defaults: ClassVar[Mapping[str, Any]] = {}
    official_users: ClassVar[int | None] = None
    training_needs: ClassVar[tuple[Need, ...]] = ()
    evaluation_needs: ClassVar[tuple[Need, ...]] = ()
    own_token_rows: ClassVar[bool] = False
    towers: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    model_type: ClassVar[str] = ""
    auto_classes: ClassVar[str] = ""
    layouts: ClassVar[tuple[Layout, ...]] = ()
    seconds: ClassVar[tuple[float, float]] = (5e-3, 5e-3)

    @property
    def any_catalogue(self) -> bool:
        """Whether its trained models recommend from any catalogue with texts, not only from the one they learned."""
        return self.from_backbone and not self.own_token_rows

    def base_values(self, recipe: Any) -> dict[str, Any]:
        """The recipe's values that the base Θ⁽⁰⁾ depends on."""
        return {}

    def draws_base(self, recipe: Any) -> bool:
        """Whether some weights of the base are random, so that it depends on the grid's seed."""
        return False

    def more_training_values(self, recipe: Any, phase: str, catalogue: str) -> dict[str, Any]:
        """Values of a checkpoint's identity in addition to its recipe."""
        return {}

    def training_work(self, values: Any, phase: str, counts: Counts, shape: Shape | None, recomputed: bool) -> Work:
        """What training one phase computes, for the first estimate of its cost.

        Args:
            values: of the recipe as attributes, those per phase as one number.
            counts: of the domain.
            shape: of the language model; None for a paradigm that starts from none.
            recomputed: whether activations are computed again in the backward pass.
        """
        return Work(seconds=counts.trained(phase) * values.epochs * self.seconds[0])

    def evaluation_work(
        self, values: Any, users: float, counts: Counts, shape: Shape | None, embedder: Shape | None
    ) -> Work:
        """What evaluating a model for so many users computes. embedder: of generated texts."""
        return Work(seconds=users * self.seconds[1])

    def batch(self, values: Any, phase: str, counts: Counts, shape: Shape | None) -> MicroBatch:
        """What a micro-batch of a training holds in memory."""
        return MicroBatch()

    def weights(self, values: Any, counts: Counts, shape: Shape | None) -> float:
        """The number of a model's weights."""
        return 0.0 if shape is None else float(shape.weights)

    def resolve(
        self,
        given: Mapping[str, Any],
        *,
        backbone_kind: str,
        history_length: int | None = None,
        compat: Compat | None = None,
    ) -> Any:
        """The full recipe: the given values, and the defaults for the kind of backbone and for `compat`.

        A value per phase may be given in part (`epochs = { phase2 = 1 }`) or as one number for all phases.
        """
        if self.recipe is None:
            raise ValueError(f"{self.name} trains nothing, so it has no recipe")
        values = dict(self.tiny_defaults) if backbone_kind == "tiny" else {}
        values |= self.official_defaults if compat == "official" else {}
        values |= {} if history_length is None else {"history_length": history_length}
        return self.recipe.model_validate(with_phase_values(self.recipe, values, given))

    def layers(self, values: Any, tower: str, backbone: int | None) -> int | None:
        """The number of layers of a tower, or of the deepest one; None if it is not known before there is a model.

        Args:
            values: of the recipe as attributes.
            tower: one of `towers`, or "" for the whole model.
            backbone: the number of the language model's layers, if it is known.
        """
        return backbone if self.from_backbone and not self.towers else None

    def load(self) -> type[Paradigm]:
        """Import the paradigm's class, and with it torch.

        Raises:
            PluginError: the class in `implementation` cannot be imported.
        """
        module, _, name = self.implementation.partition(":")
        try:
            return getattr(import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            problem = f"{type(error).__name__}: {error}"
            raise PluginError(f"the paradigm {self.name!r}: no class {self.implementation!r} ({problem})") from error
