"""Engines that generate titles from prompts: their interface, and the two implementations."""

from mmgrid.paradigms.text.engines.contract import TitleGenerator
from mmgrid.paradigms.text.engines.huggingface import HuggingFaceGenerator
from mmgrid.paradigms.text.engines.vllm import VllmGenerator

__all__ = ["HuggingFaceGenerator", "TitleGenerator", "VllmGenerator"]
