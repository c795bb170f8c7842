"""What all tests of vLLM need: vLLM, which lives in an environment of its own (`make test-vllm`)."""

import importlib.util
import os

import pytest


def needs_vllm() -> None:
    """Skip the module that calls this where vLLM is not installed; have it take one process and little memory elsewhere."""
    if importlib.util.find_spec("vllm") is None:
        pytest.skip(
            "vLLM pins other versions of packages and has its own environment: make test-vllm", allow_module_level=True
        )
    # Other tests run at the same time.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
