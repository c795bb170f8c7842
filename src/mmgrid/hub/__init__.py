"""Publishes models on the Hugging Face Hub, and fetches them from there."""

from mmgrid.hub.pull import Pulled, pull
from mmgrid.hub.push import Pushed, push

__all__ = ["Pulled", "Pushed", "pull", "push"]
