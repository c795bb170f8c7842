"""Models for the merge benchmarks: a base and fine-tuned copies, random bfloat16 weights in the exact shapes of Qwen3."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmgrid.merging.arrays.floats import narrow, widen
from mmgrid.merging.models.tensor_writer import TensorWriter
from mmgrid.merging.models.tensors import TensorInfo

VOCABULARY = 151_936
RUN = 1 << 20


@dataclass(frozen=True)
class Size:
    """The shape of a Qwen3 with tied embeddings and a head dimension of 128."""

    hidden: int
    layers: int
    intermediate: int
    queries: int
    keys: int
    vocabulary: int = VOCABULARY

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name → shape of every tensor in the file."""
        shapes: dict[str, tuple[int, ...]] = {
            "model.embed_tokens.weight": (self.vocabulary, self.hidden),
            "model.norm.weight": (self.hidden,),
        }
        for layer in range(self.layers):
            inner = {
                "self_attn.q_proj": (self.queries, self.hidden),
                "self_attn.k_proj": (self.keys, self.hidden),
                "self_attn.v_proj": (self.keys, self.hidden),
                "self_attn.o_proj": (self.hidden, self.queries),
                "self_attn.q_norm": (128,),
                "self_attn.k_norm": (128,),
                "mlp.gate_proj": (self.intermediate, self.hidden),
                "mlp.up_proj": (self.intermediate, self.hidden),
                "mlp.down_proj": (self.hidden, self.intermediate),
                "input_layernorm": (self.hidden,),
                "post_attention_layernorm": (self.hidden,),
            }
            shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in inner.items()}
        return shapes

    def config(self) -> dict[str, object]:
        return {
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "intermediate_size": self.intermediate,
            "num_attention_heads": self.queries // 128,
            "num_key_value_heads": self.keys // 128,
            "head_dim": 128,
            "vocab_size": self.vocabulary,
            "tie_word_embeddings": True,
            "dtype": "bfloat16",
            "max_position_embeddings": 40960,
        }


SIZES = {
    "0.15B": Size(hidden=512, layers=24, intermediate=1536, queries=1024, keys=512, vocabulary=131_072),
    "0.6B": Size(hidden=1024, layers=28, intermediate=3072, queries=2048, keys=1024),
    "1.7B": Size(hidden=2048, layers=28, intermediate=6144, queries=2048, keys=1024),
}


def make_models(folder: Path, size: str, names: list[str]) -> dict[str, Path]:
    """Folders of a base and fine-tuned copies (base + noise of a fortieth of its size); existing ones are kept."""
    shapes = SIZES[size].shapes()
    paths = {name: folder / size / name for name in names}
    for number, path in enumerate(paths.values()):
        if (path / "config.json").exists():
            continue
        path.mkdir(parents=True, exist_ok=True)
        (path / "model.safetensors").unlink(missing_ok=True)
        base_draw, own_draw = np.random.default_rng(0), np.random.default_rng(number)
        with TensorWriter(
            path / "model.safetensors", {tensor: TensorInfo("bfloat16", shape) for tensor, shape in shapes.items()}
        ) as writer:
            for tensor, shape in sorted(shapes.items()):
                for start in range(0, int(np.prod(shape)), RUN):
                    n = min(RUN, int(np.prod(shape)) - start)
                    stored = narrow(base_draw.standard_normal(n, dtype=np.float32) * np.float32(0.02), "bfloat16")
                    if number:
                        noise = own_draw.standard_normal(n, dtype=np.float32) * np.float32(0.0005)
                        stored = narrow(widen(stored, "bfloat16") + noise, "bfloat16")
                    writer.write(tensor, start, stored)
        (path / "config.json").write_text(json.dumps(SIZES[size].config()))
    return paths
