"""Model cards: the `README.md` of a model's folder, with the metadata that the Hugging Face Hub reads.

A card depends only on the folder it is in. It contains no dates of making, no absolute paths, no names of users.
"""

from mmgrid.cards.checkpoint import CARD_FILE, checkpoint_card
from mmgrid.cards.declared import ORIGIN, checkpoints_in, origins_in
from mmgrid.cards.metadata import CardMetadata, licence_in, read_json
from mmgrid.cards.private import without_private_paths, without_private_values
from mmgrid.cards.results import Measured, with_results
from mmgrid.cards.snippet import usage, used_from_hub

__all__ = [
    "CARD_FILE",
    "ORIGIN",
    "CardMetadata",
    "Measured",
    "checkpoint_card",
    "checkpoints_in",
    "licence_in",
    "origins_in",
    "read_json",
    "usage",
    "used_from_hub",
    "with_results",
    "without_private_paths",
    "without_private_values",
]
