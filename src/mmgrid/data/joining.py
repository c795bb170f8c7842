"""Several domains as one: the users of all, over the items of all."""

from collections.abc import Mapping

import polars as pl

from mmgrid.data.corpus import Corpus


def joined(corpora: Mapping[str, Corpus], name: str) -> Corpus:
    """The interactions and items of all corpora as one corpus.

    Ids of users and items begin with the domain (`beauty/A1`), so a user of two domains counts as two users, each with
    the history of one domain.
    """
    interactions, items = [], []
    for domain, corpus in sorted(corpora.items()):
        users, own_items = (
            pl.concat_str(pl.lit(f"{domain}/"), pl.col(key)).alias(key) for key in ("user_id", "item_id")
        )
        interactions.append(corpus.interactions_table().with_columns(users, own_items))
        items.append(corpus.catalogue.table().with_columns(own_items))
    return Corpus.from_tables(name, pl.concat(interactions), pl.concat(items))
