"""What a grid knows of a paradigm before anything is built; nothing here imports torch.

A paradigm comes in two parts: its spec, of which planning needs no more, and its `Paradigm` (see `contract`), which is
imported when a model is made or evaluated. Both may stand in one file.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mmgrid.paradigms.recipe import Compat, Recipe, with_phase_values
from mmgrid.plugins import PluginError

if TYPE_CHECKING:
    from mmgrid.paradigms.contract import Paradigm

Need = Literal["codes", "item_vectors", "title_vectors", "embedder"]
"""What a paradigm may need of a grid next to the backbone and the domain's corpus.

`codes`: the folder of the domain's semantic IDs. `item_vectors`: float32 [N, D] of titles and descriptions.
`title_vectors`: float32 [N, D] of titles alone. `embedder`: what turns other texts into vectors of the same space.
"""


class ParadigmSpec:
    """One paradigm. Subclass it, set the class attributes, and name an instance as an entry point of `mmgrid.paradigms`.

    Attributes:
        name: what grid files, cells and results call it.
        implementation: `module:Class` of its `Paradigm`.
        recipe: the type of its values; None for a paradigm that takes models as they are and trains nothing.
        from_backbone: whether its training starts from the grid's language model, through a base Θ⁽⁰⁾ that its
            checkpoints share, so that they can be merged across domains.
        in_one_go: whether it is also trained once on everything before the target phase.
        versions: by kind of cell (`base`, `checkpoint`, `evaluation`), raised when the code makes something else of the
            same recipe. They enter fingerprints; a kind that is not named has version 1.
        tiny_defaults: values over a tiny backbone, instead of the recipe's own defaults.
        official_defaults: values under `compat = "official"`, as the paper's official code has them.
        official_users: test users under `compat = "official"`, at most.
        training_needs: needed where training starts. evaluation_needs: needed to evaluate a model.
        own_token_rows: whether each domain keeps token rows of its own in a merge (see `mmgrid.merging.BlockTable`).
        model_type: of its `config.json`, where its model is an architecture of its own.
        auto_classes: a module that, imported, makes Transformers' Auto classes know that architecture.
        seconds: of a trained interaction and of an evaluated user on one core, for the first estimate of costs.
    """

    name: ClassVar[str]
    implementation: ClassVar[str]
    recipe: ClassVar[type[Recipe] | None] = None
    from_backbone: ClassVar[bool] = False
    in_one_go: ClassVar[bool] = False
    versions: ClassVar[Mapping[str, int]] = {}
    tiny_defaults: ClassVar[Mapping[str, Any]] = {}
    official_defaults: ClassVar[Mapping[str, Any]] = {}
    official_users: ClassVar[int | None] = None
    training_needs: ClassVar[tuple[Need, ...]] = ()
    evaluation_needs: ClassVar[tuple[Need, ...]] = ()
    own_token_rows: ClassVar[bool] = False
    model_type: ClassVar[str] = ""
    auto_classes: ClassVar[str] = ""
    seconds: ClassVar[tuple[float, float]] = (5e-3, 5e-3)

    def base_values(self, recipe: Any) -> dict[str, Any]:
        """The values that shape the base Θ⁽⁰⁾, apart from how it is trained."""
        return {}

    def draws_base(self, recipe: Any) -> bool:
        """Whether weights of the base are drawn at random, so that it depends on the grid's seed."""
        return False

    def more_training_values(self, recipe: Any, phase: str, catalogue: str) -> dict[str, Any]:
        """Values of a checkpoint's identity beyond its recipe."""
        return {}

    def resolve(
        self,
        given: Mapping[str, Any],
        *,
        backbone_kind: str,
        history_length: int | None = None,
        compat: Compat | None = None,
    ) -> Any:
        """The full recipe: what is given, over the defaults for the kind of backbone, and for `compat`.

        A value per phase may be given in part (`epochs = { phase2 = 1 }`) or as one number for all phases.
        """
        if self.recipe is None:
            raise ValueError(f"{self.name} trains nothing, so it has no recipe")
        values = dict(self.tiny_defaults) if backbone_kind == "tiny" else {}
        values |= self.official_defaults if compat == "official" else {}
        values |= {} if history_length is None else {"history_length": history_length}
        return self.recipe.model_validate(with_phase_values(self.recipe, values, given))

    def load(self) -> type[Paradigm]:
        """The paradigm's class; imports it, and with it torch.

        Raises:
            PluginError: `implementation` names no class that can be imported.
        """
        module, _, name = self.implementation.partition(":")
        try:
            return getattr(import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            problem = f"{type(error).__name__}: {error}"
            raise PluginError(f"the paradigm {self.name!r}: no class {self.implementation!r} ({problem})") from error
