"""Recipes of quantisers: everything that determines the codes except item vectors and seed. Imports no torch."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mmgrid.frozen import Frozen

KEY_BITS = 62  # a full code must fit into one int64, see `collisions.code_keys`


class _Recipe(Frozen):
    """Values that all quantisers share: the number of levels and of codes per level."""

    levels: int = Field(default=4, ge=1, description="codes of one item")
    codes: int = Field(default=256, ge=2, le=65536, description="different codes of one level")

    @model_validator(mode="after")
    def _code_is_short(self) -> "_Recipe":
        if self.levels > KEY_BITS or self.codes**self.levels > 2**KEY_BITS:  # a power of unbounded size takes hours
            raise ValueError(
                f"codes {self.codes} on levels {self.levels} make more than 2**{KEY_BITS} different codes: "
                "take fewer levels or fewer codes"
            )
        return self


class ResidualKMeansRecipe(_Recipe):
    """Recipe of residual k-means, which needs no GPU."""

    kind: Literal["residual_kmeans"] = "residual_kmeans"
    iterations: int = Field(
        default=100, ge=1, description="maximum per level; with mini-batches, passes over all items"
    )
    mini_batch_above: int = Field(default=100_000, ge=0, description="use mini-batches above this number of items")
    mini_batch_size: int = Field(default=8192, ge=1, description="items of a mini-batch")


class RqVaeRecipe(_Recipe):
    """Recipe of the RQ-VAE; the defaults are those of LC-Rec, except for the number of steps."""

    kind: Literal["rqvae"] = "rqvae"
    hidden: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        default=(2048, 1024, 512, 256, 128, 64), description="widths of the encoder's layers; the decoder mirrors them"
    )
    width: int = Field(default=32, gt=0, description="width of the latent vector that is quantised")
    dropout: float = Field(default=0.0, ge=0, lt=1)
    beta: float = Field(default=0.25, ge=0, description="weight of the commitment loss")
    quantisation_weight: float = Field(default=1.0, ge=0, description="weight of codebook and commitment loss together")
    steps: int = Field(default=20_000, ge=1, description="optimizer steps")
    batch_size: int = Field(default=1024, ge=1, description="items per step")
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    start_items: int = Field(
        default=16_384, ge=1, description="maximum items for the k-means that initialises the codewords"
    )
    start_iterations: int = Field(default=100, ge=1, description="maximum iterations of that k-means")
    sinkhorn_epsilon: float = Field(
        default=0.003, ge=0, description="entropy weight of the balanced assignment on the last level; 0: nearest codes"
    )
    sinkhorn_iterations: int = Field(default=50, ge=1)
    reassign_rounds: int = Field(default=20, ge=0, description="maximum rounds of reassigning colliding items")


QuantiserRecipe = Annotated[ResidualKMeansRecipe | RqVaeRecipe, Field(discriminator="kind")]
