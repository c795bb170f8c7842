"""All that determines a quantiser's codes, apart from the item vectors and the seed; nothing here imports torch."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

KEY_BITS = 62  # a full code is held as one int64 where codes are compared


class _Recipe(BaseModel):
    """What the recipes of all quantisers share: how long a code is, and over how many values."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    levels: int = Field(default=4, ge=1, description="codes of one item")
    codes: int = Field(default=256, ge=2, le=65536, description="different codes of one level")

    @model_validator(mode="after")
    def _code_is_short(self) -> "_Recipe":
        if self.codes**self.levels > 2**KEY_BITS:
            raise ValueError(
                f"levels {self.levels} of codes {self.codes} are more than 2**{KEY_BITS} different codes: "
                "take fewer levels or fewer codes"
            )
        return self


class ResidualKMeansRecipe(_Recipe):
    """All values of residual k-means, which needs no GPU."""

    kind: Literal["residual_kmeans"] = "residual_kmeans"
    iterations: int = Field(default=100, ge=1, description="of one level at most, or passes over all items")
    mini_batch_above: int = Field(default=100_000, ge=0, description="items beyond which mini-batches are taken")
    mini_batch_size: int = Field(default=8192, ge=1, description="items of a mini-batch")


class RqVaeRecipe(_Recipe):
    """All values of the RQ-VAE; the defaults are LC-Rec's, but for the number of steps."""

    kind: Literal["rqvae"] = "rqvae"
    hidden: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        default=(2048, 1024, 512, 256, 128, 64), description="widths of the encoder's layers; the decoder mirrors them"
    )
    width: int = Field(default=32, gt=0, description="of the latent vector that is quantised")
    dropout: float = Field(default=0.0, ge=0, lt=1)
    beta: float = Field(default=0.25, ge=0, description="weight of the commitment loss")
    quantisation_weight: float = Field(default=1.0, ge=0, description="of codebook and commitment loss together")
    steps: int = Field(default=20_000, ge=1, description="optimizer steps")
    batch_size: int = Field(default=1024, ge=1, description="items of a step")
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    start_items: int = Field(default=16_384, ge=1, description="items whose k-means starts the codebooks, at most")
    start_iterations: int = Field(default=100, ge=1, description="of that k-means, at most")
    sinkhorn_epsilon: float = Field(
        default=0.003, ge=0, description="entropy of the balanced assignment on the last level; 0: nearest codes"
    )
    sinkhorn_iterations: int = Field(default=50, ge=1)
    reassign_rounds: int = Field(default=20, ge=0, description="in which colliding items are spread, at most")


QuantiserRecipe = Annotated[ResidualKMeansRecipe | RqVaeRecipe, Field(discriminator="kind")]
