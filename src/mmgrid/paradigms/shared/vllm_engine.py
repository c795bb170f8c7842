"""vLLM on the model of a checkpoint. vLLM is an extra: `pip install "mmgrid[vllm]"`.

It works on a CPU and on a GPU, depending on how vLLM was built.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn


def start_engine(folder: Path, *, dtype: str = "float32", **options: Any) -> Any:
    """A `vllm.LLM` on a folder in Hugging Face layout, with its tokenizer.

    Args:
        dtype: of weights and computation; by itself, vLLM would use a 16-bit format for float32 weights.
        options: further arguments of `vllm.LLM`, such as `tensor_parallel_size`. `gpu_memory_utilization` defaults to
            the GPU's free memory.

    Raises:
        ImportError: vLLM is not there, or does not fit to this environment; the message says how to install it.
    """
    try:
        from vllm import LLM  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(f'vLLM cannot be imported ({error}): pip install "mmgrid[vllm]"') from error
    return LLM(model=str(folder), dtype=dtype, **{**_free_memory(), **options})


def stop_engine(engine: Any) -> None:
    """Stop an engine and free its memory."""
    engine.llm_engine.engine_core.shutdown()


@contextmanager
def written(save: Callable[[Any, Path], None], model: nn.Module) -> Iterator[Path]:
    """The model in a folder within, for an engine, which has the GPU for itself meanwhile.

    save: writes the model and its tokenizer in Hugging Face layout, and no other safetensors, which vLLM would read.
    """
    place = next(model.parameters()).device
    with TemporaryDirectory(prefix="mmgrid-") as folder:
        save(model, Path(folder))
        model.to("cpu")
        if place.type == "cuda":
            torch.cuda.empty_cache()
        try:
            yield Path(folder)
        finally:
            model.to(place)


def _free_memory() -> dict[str, float]:
    """The share of a GPU's memory for the engine: what other models, such as an embedder, leave free."""
    if not torch.cuda.is_available():
        return {}
    free, total = torch.cuda.mem_get_info()
    return {"gpu_memory_utilization": round(0.95 * free / total, 2)}
