"""From prompts to titles, by whichever engine: what `text` asks of one, and the two that there are."""

from mmgrid.paradigms.text.engines.contract import TitleGenerator
from mmgrid.paradigms.text.engines.huggingface import HuggingFaceGenerator
from mmgrid.paradigms.text.engines.vllm import VllmGenerator

__all__ = ["HuggingFaceGenerator", "TitleGenerator", "VllmGenerator"]
