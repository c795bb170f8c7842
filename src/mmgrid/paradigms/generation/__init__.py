"""From prompts to titles, by whichever engine: what `text` asks of one, and the two that there are."""

from mmgrid.paradigms.generation.contract import TitleGenerator
from mmgrid.paradigms.generation.huggingface import HuggingFaceGenerator
from mmgrid.paradigms.generation.vllm import VllmGenerator

__all__ = ["HuggingFaceGenerator", "TitleGenerator", "VllmGenerator"]
