"""The recipe of a tiny backbone: everything that determines it except its texts and its seed."""

from typing import Literal

from pydantic import Field, model_validator

from mmgrid.frozen import Frozen


class TinyRecipe(Frozen):
    """Shape and pre-training of a tiny Qwen3; the default has about 1.8 million parameters."""

    hidden_size: int = Field(default=128, gt=0)
    layers: int = Field(default=4, ge=1)
    heads: int = Field(default=4, ge=1)
    key_value_heads: int = Field(default=2, ge=1)
    intermediate_size: int = Field(default=384, gt=0)
    vocabulary: int = Field(
        default=8192, ge=300, description="tokens including special ones; fewer if the texts are small"
    )
    steps: int = Field(default=600, ge=1, description="optimizer steps of language-model pre-training")
    batch_rows: int = Field(default=32, gt=0, description="rows per batch")
    row_tokens: int = Field(default=64, ge=8, description="tokens per row")
    learning_rate: float = Field(default=2e-3, gt=0)
    precision: Literal["float32", "bf16"] = "float32"

    @model_validator(mode="after")
    def _heads_divide(self) -> "TinyRecipe":
        if self.hidden_size % self.heads or self.heads % self.key_value_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} must be a multiple of heads {self.heads}, "
                f"and heads of key_value_heads {self.key_value_heads}"
            )
        return self
