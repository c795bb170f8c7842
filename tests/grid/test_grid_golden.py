"""The fingerprints of a whole grid's cells are pinned: who changes one of them forks everybody's store.

Every value is written out, so that a default which moves changes nothing here. If a test fails because a recipe has a
new field, give it `absent_means` (see `mmgrid.grid.cells.fingerprint`); if a builder now makes something else of the same
recipe, raise its STEP_VERSION; and only then pin anew.
"""

from pathlib import Path

from kits.tiny_grid import fingerprints, planned
from mmgrid.grid.file.load import load_grid

TEXT = """\
name = "golden"
seed = 0
threads_per_cell = 1

[data]
format = "parquet"
root = "raw"
domains = ["books", "toys"]
min_interactions = 5
max_users = 4000
catalogue = "closed"

[phases]
pretrain = ["2008-07-01", "2013-07-01"]
phase1   = ["2013-07-01", "2013-10-01"]
phase2   = ["2013-10-01", "2014-01-01"]
test     = ["2014-01-01", "2014-04-01"]

[backbone]
kind = "tiny"
corpus = ["books"]
hidden_size = 128
layers = 4
heads = 4
key_value_heads = 2
intermediate_size = 384
vocabulary = 8192
steps = 600
batch_rows = 32
row_tokens = 64
learning_rate = 2e-3
precision = "float32"

[semantic_ids]
codebook = "domain"

[semantic_ids.quantiser]
levels = 4
codes = 256
kind = "residual_kmeans"
iterations = 100
mini_batch_above = 100000
mini_batch_size = 8192

[item_vectors]
source = "backbone"

[paradigms.text]
history_length = 25
epochs = { pretrain = 4, phase1 = 2, phase2 = 2 }
least_steps = 0
rehearsal   = 0
base_decay  = 0
learning_rate = { pretrain = 4e-3, phase1 = 0.001, phase2 = 0.001 }
batch_size = 32
weight_decay = 0.0
warmup_ratio = 0.0
schedule = "cosine"
precision = "float32"
evaluation_precision = "float32"
optimizer = "adamw"
gradient_clipping = 1.0
attention = "sdpa"
compile = false
order = "shuffled"
accumulation = 1
targets_per_user = 5
earlier_items = 4
warmup_steps = 50
cross_entropy = "torch"
prompt = "Recommend the next item to a user who has taken these items, from the oldest to the newest:"
every_position = false
text_tokens = 16
title_tokens = 16
titles = 5
engine = "huggingface"
engine_options = {}
popularity_gamma = 0.0
popularity_half_life_days = 30.0
without_popularity = "kept"
masked = "own"
hits = "item"

[paradigms.semid]
history_length = 25
epochs = { pretrain = 6, phase1 = 2, phase2 = 2 }
least_steps = 0
rehearsal   = 0
base_decay  = 0
learning_rate = { pretrain = 0.003, phase1 = 0.0005, phase2 = 0.0005 }
batch_size = 32
weight_decay = 0.0
warmup_ratio = 0.0
schedule = "cosine"
precision = "float32"
evaluation_precision = "float32"
optimizer = "adamw"
gradient_clipping = 1.0
attention = "sdpa"
compile = false
order = "shuffled"
accumulation = 1
targets_per_user = 1
earlier_items = 4
warmup_steps = 50
cross_entropy = "torch"
title_tokens = 16
text_tokens = 16
weights = "backbone"
code_weight = 10.0
divisor = "weights"
every_position = false
mixed_tasks = true
item_group = 5
replay = 0.1
beam_width = 20
renormalise = "level"
hits = "item"
masked = "own"
engine = "huggingface"
engine_options = {}

[paradigms.semb]
targets = "phase"
prompt = "Compress:"
history_length = 25
text_tokens = 32
prompt_counts = false
shared_negatives = false
title_tokens = 24
negatives = 256
batch_negatives = true
batch_size = 16
evaluation_precision = "float32"
optimizer = "adamw"
gradient_clipping = 1.0
attention = "sdpa"
compile = false
order = "shuffled"
accumulation = 1
weight_decay = 0.001
warmup_ratio = 0.1
schedule = "cosine"
precision = "float32"
epochs        = { pretrain = 3, phase1 = 2, phase2 = 2 }
least_steps   = 0
rehearsal     = 0
base_decay    = 0
learning_rate = { pretrain = 1e-3, phase1 = 5e-4, phase2 = 5e-4 }

[paradigms.sasrec]
history_length = 25
hidden_size = 64
layers = 2
heads = 2
intermediate_size = 256
dropout = 0.2
batch_size = 128
evaluation_precision = "float32"
optimizer = "adamw"
gradient_clipping = 1.0
attention = "sdpa"
compile = false
order = "shuffled"
accumulation = 1
weight_decay = 0.0
warmup_ratio = 0.0
schedule = "constant"
precision = "float32"
epochs        = { pretrain = 10, phase1 = 3, phase2 = 3, all = 10 }
least_steps   = 0
rehearsal     = 0
base_decay    = 0
learning_rate = { pretrain = 1e-3, phase1 = 5e-4, phase2 = 5e-4, all = 1e-3 }

[evaluation]
target = "test"
history_length = 25
max_users = 2000

[[merges]]
kind = "cross_domain"
method = "linear"
weight = 0.75
scale = 1.0
keep = true
options = { normalise = true }
paradigms = ["semb"]
"""

GOLDEN = {
    "base/text": "23ecd0ce4b85ddcf9938840c0b30032e3f521f08b33da6a517ce58a036d399fb",
    "base/semid": "4380e43015f4fc0afbb3d88efa90b51a4f4843ce151dc2dee55a6ab688fe1608",
    "checkpoint/text/books/phase1": "8414e3819f7b7f0d554d73e747c4d6c2dd55005ff6142a30427a54045345de09",
    "codes/books": "e499b69d34b8e7dc539a582081134bea3cf4f93dce389ab55fc5eca4115ea9f2",
    "checkpoint/semid/books/phase1": "9cecbb103b03af8f428a0fdce7112546aa29aa0fc9c0d376f7f177cc59a9195f",
    "evaluation/semid/toys/phase2": "745ba1e17d236e77c822bcabce2a1f732dad32b6904223bb4744352b275dc8b1",
    "evaluation/text/toys/phase2": "301ff503e82fee51d0dbef04e7984b9ccfaa80043c99884424f2a57dee0fc962",
    "corpus/books": "3d10ad46b2c1c4c59a18f9ff21c4a2b9827cf420d92382840b20571ec25c3e3e",
    "backbone/tiny": "e6a8e92c9ff139bdd4d2e1357eaee9733d7b95fa12719d49dfe1505a706b8aa9",
    "base/semb": "21b243bfd6d7b62f09b3c6db0351ee4eb38ec5e59539be7646b326c00990f7b2",
    "checkpoint/semb/books/phase1": "2280473b632b8aad6e4cb4104c000e373f8a18418f80c82278d93d46d19dd2df",
    "checkpoint/sasrec/toys/all": "e5282078dedfc15e338be17b1363be8dd74b98400c83cccee47f143c1acc61b7",
    "merge/semb/linear=0.75-books+0.25-toys": "3e6ce305690572152d32d82ac9c42f21ed01c233936a5bf5ec4fbbe35bf5cfab",
    "evaluation/semb/books/linear=0.75-books+0.25-toys": "5b1a28c06c9cdf1382dbd7ee1f08b3d0ac7a5243edbb467b20867106a51b8aa3",
    "evaluation/baseline/toys/popularity": "7ba4ee2533b2f6f59b898d85363546d88c923ae8213978c9ba624a5df969e5b7",
}


def _raw(folder: Path) -> None:
    for domain in ("books", "toys"):
        (folder / "raw" / domain).mkdir(parents=True)
        for name in ("interactions", "items"):
            (folder / "raw" / domain / f"{name}.parquet").write_text(f"{name} of {domain}")


def test_a_few_fingerprints_are_pinned(tmp_path: Path) -> None:
    _raw(tmp_path)
    found = fingerprints(planned(tmp_path, text=TEXT))
    assert {name: found[name] for name in GOLDEN} == GOLDEN


def test_the_pinned_grid_leaves_no_value_to_a_default(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(TEXT)
    spec = load_grid(tmp_path / "tiny.toml").spec
    for paradigm, given in spec.paradigms.items():
        recipe = spec.recipe(paradigm)
        assert given.keys() == recipe.model_dump(exclude_none=True, exclude=set(recipe.PLACING)).keys()
    assert spec.backbone.model_fields_set == type(spec.backbone).model_fields.keys()
