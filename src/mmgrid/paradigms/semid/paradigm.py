"""The semantic-ID paradigm `semid` (LC-Rec, Zheng et al. 2024): a language model generates the next item's codes.

Its vocabulary is the backbone's, followed by one block of token rows for each domain and codebook.

Shape letters: B users of a block, P prompt tokens, T answer tokens, D width, L levels, C codes of a level.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mmgrid.backbone.load import load_model, load_tokenizer
from mmgrid.backbone.random_weights import with_random_weights
from mmgrid.backbone.token_rows import append_token_rows, keep_token_rows, token_tables
from mmgrid.data import Histories, Items, Phase
from mmgrid.decoding import ItemTrie
from mmgrid.decoding.lm_head import lm_head_logits, vocabulary_of
from mmgrid.decoding.tree_support import check_tree_support
from mmgrid.evaluation import list_ranks
from mmgrid.files import sha256_file
from mmgrid.paradigms.contract import CannotTrainError, CodesFolder, Paradigm, Predictions, TrainingStart
from mmgrid.paradigms.facts import FACTS_FILE, CheckpointError, facts
from mmgrid.paradigms.semid.code_tokens import CodeTokens, entry_of, with_code_tokens
from mmgrid.paradigms.semid.layouts import EVALUATION_VALUES
from mmgrid.paradigms.semid.official import official_prompt
from mmgrid.paradigms.semid.searching import searching
from mmgrid.paradigms.semid.spec import MODEL_VALUES, SemidRecipe
from mmgrid.paradigms.semid.tasks import PromptParts, SemidExamples
from mmgrid.paradigms.semid.token_rows import moved_rows, rows_seed
from mmgrid.paradigms.shared.cut_loss import cut_cross_entropy
from mmgrid.paradigms.shared.dialogues import answer_states, check_packing
from mmgrid.paradigms.shared.dot_product import check_histories
from mmgrid.paradigms.shared.padding import pad_right
from mmgrid.paradigms.shared.sliced_loss import summed_cross_entropy
from mmgrid.paradigms.shared.targets import targets
from mmgrid.paradigms.shared.windows import windows
from mmgrid.semantic_ids.codebook_files import ARRAYS_FILE
from mmgrid.semantic_ids.item_codes import ItemCodes

# Users per block of a beam search, by kind of device: keys and values should stay small compared to the model.
USERS_PER_BLOCK = {"cpu": 32, "cuda": 256}

MIN_RANKED = 20  # metrics at 20 need lists this long, also with a smaller beam_width


class Semid(Paradigm[PreTrainedModel]):
    """semid as a paradigm; an instance recommends for one domain, and holds that domain's codes."""

    name = "semid"

    def __init__(
        self,
        config: Mapping[str, Any],
        tokenizer: PreTrainedTokenizerBase,
        codes: ItemCodes,
        recipe: SemidRecipe | None = None,
        tokens: CodeTokens | None = None,
    ):
        """Args:
            config: the `mmgrid` section of the model's config.
            tokens: the domain's block of token rows; default: the block that `config` names.

        Raises ValueError if `config` lacks a value that prompts depend on.
        """
        missing = [name for name in ("block", "first_token", *MODEL_VALUES) if name not in config]
        if missing:
            raise ValueError(f"config.json lacks `mmgrid.{missing[0]}`; is this a semid checkpoint?")
        self.config = dict(config)
        self.tokenizer = tokenizer
        self.codes = codes
        shape = codes.levels, codes.codes_per_level
        self.tokens = tokens or CodeTokens(config["block"], config["first_token"], shape)
        kept = {name: value for name, value in self.config.items() if name in SemidRecipe.model_fields}
        self.recipe = recipe or SemidRecipe(**kept, **(EVALUATION_VALUES if self.official else {}))
        self._parts: tuple[Items, PromptParts] | None = None
        self._trie: tuple[Items, ItemTrie] | None = None

    @classmethod
    def create(
        cls,
        recipe: SemidRecipe,
        backbone: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        codes: ItemCodes,
        block: str,
        seed: int,
        *,
        domain: str = "",
        codebook: str = "",
    ) -> tuple[Semid, PreTrainedModel]:
        """Append a block of rows for code tokens to a backbone, drawn from `seed` and the block's name.

        Args:
            backbone: with its language-model head; changed in place.
            block: the name of the token block, one for each domain and codebook; merges match blocks by name.
            domain: the domain's name; default: the part of `block` before a slash.
            codebook: SHA-256 (hex) of the codebook's arrays; default: the digest of the block's name.

        Raises BackboneError if the backbone cannot pack dialogues or read trees of beams, or if the tokenizer has more
        tokens than it has rows.
        """
        check_packing(backbone)
        check_tree_support(backbone)
        domain = domain or block.partition("/")[0]
        codebook = codebook or hashlib.sha256(block.encode()).hexdigest()
        first = append_token_rows(backbone, codes.levels * codes.codes_per_level, rows_seed(seed, block))
        tokens = CodeTokens.of(block, domain, first, codes, codebook)
        with_code_tokens(tokenizer, tokens)  # if they do not fit, nothing is trained
        config = {"paradigm": cls.name, "block": block, "first_token": first}
        backbone.config.mmgrid = config | {name: getattr(recipe, name) for name in MODEL_VALUES}
        return cls(backbone.config.mmgrid, tokenizer, codes, recipe, tokens), backbone

    @classmethod
    def write_base(cls, recipe: SemidRecipe, backbone: Path, folder: Path, seed: int) -> PreTrainedModel:
        """The backbone alone: code tokens belong to the checkpoints of a domain, so the base has none."""
        model = load_model(backbone)
        if recipe.weights == "drawn":
            model = with_random_weights(model, seed)
        model.save_pretrained(str(folder))
        load_tokenizer(backbone).save_pretrained(str(folder))
        return model

    @classmethod
    def start(cls, recipe: SemidRecipe, start: TrainingStart) -> tuple[Semid, PreTrainedModel]:
        assert start.folder is not None  # at least its base
        if "codes" not in start.needs:
            return cls.load(start.folder, recipe, start.domain)
        found: CodesFolder = start.needs["codes"]
        codebook = sha256_file(found.folder / ARRAYS_FILE)
        return cls.create(
            recipe,
            load_model(start.folder),
            load_tokenizer(start.folder),
            ItemCodes.load(found.folder),
            f"{'shared' if found.shared else start.domain}/{codebook[:8]}",
            start.grid_seed,
            domain=start.domain,
            codebook=codebook,
        )

    @classmethod
    def load(
        cls, folder: Path, recipe: SemidRecipe | None = None, domain: str | None = None
    ) -> tuple[Semid, PreTrainedModel]:
        """See `Paradigm.load`. From a merge of several domains, only the code tokens of `domain` are kept.

        Raises CheckpointError if the folder has no codes of the domain, or codes that belong to other token rows.
        """
        model = load_model(folder)
        table = facts(folder).get("blocks")
        if not table:
            raise CheckpointError(f"{folder}: {FACTS_FILE} names no blocks of token rows; save it with Semid.save")
        backbone, entry = table["rows"][0], entry_of(table["rows"], domain, folder)
        tokens, codes = CodeTokens.load(folder, entry)
        config = model.config.mmgrid
        if len(table["rows"]) > 2 or tokens.first != backbone["stop"]:
            keep_token_rows(model, [(0, backbone["stop"]), (tokens.first, tokens.stop)])
            tokens = replace(tokens, first=backbone["stop"])
            model.config.mmgrid = config = config | {"block": tokens.block, "first_token": tokens.first}
        return cls(config, load_tokenizer(folder), codes, recipe, tokens), model

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Write the model, the tokenizer with code tokens, the codes, and `mmgrid.json` with the blocks of rows."""
        self.save_model(model, folder)
        self.tokens.save_codes(self.codes, folder)
        (folder / FACTS_FILE).write_text(
            json.dumps({"paradigm": self.name, **self.facts(model)}) + "\n", encoding="utf-8"
        )

    def save_model(self, model: PreTrainedModel, folder: Path) -> None:
        """Write the model and the tokenizer with code tokens alone."""
        model.save_pretrained(str(folder))
        with_code_tokens(self.tokenizer, self.tokens).save_pretrained(str(folder))

    def facts(self, model: nn.Module) -> dict[str, Any]:
        """The token blocks of a model, as its `mmgrid.json` declares them for merges."""
        assert isinstance(model, PreTrainedModel)
        rows = [{"name": "backbone", "start": 0, "stop": self.tokens.first}, self.tokens.entry()]
        return {"blocks": {"tensors": token_tables(model), "rows": rows}}

    @classmethod
    def moved_token_rows(
        cls, checkpoints: Mapping[str, Mapping[str, Path]], base: Path, seed: int
    ) -> dict[str, dict[str, np.ndarray]]:
        return moved_rows(checkpoints, base, seed)

    @property
    def level_tokens(self) -> np.ndarray:
        """Token id of each code: int64 [L, C]; see `CodeTokens.table`."""
        return self.tokens.table

    def examples(self, histories: Histories, items: Items, phase: Phase, seed: int) -> SemidExamples:
        replay = 1.0 if phase.name in ("pretrain", "all") else self.recipe.replay
        return self._examples(histories, items, phase, self.recipe, replay, seed)

    def next_items(
        self, histories: Histories, items: Items, phase: Phase, *, batch_size: int, seed: int
    ) -> SemidExamples:
        only = {"earlier_items": 1, "mixed_tasks": False}
        known = replace(items, new=items.new[:0])
        return self._examples(histories, known, phase, self.recipe.model_copy(update=only), 0.0, seed)

    def _examples(
        self, histories: Histories, items: Items, phase: Phase, recipe: SemidRecipe, replay: float, seed: int
    ) -> SemidExamples:
        if self.official:
            raise CannotTrainError(
                "this checkpoint was imported from LC-Rec, whose prompts semid can ask and not train; use it as it is"
            )
        length = self.config["history_length"]
        coded = self.codes.has_code()
        chosen = targets(
            histories,
            phase,
            earlier=recipe.earlier_items,
            most_per_user=recipe.most_targets(phase.name),
            seed=seed,
        ).among(coded)
        together = windows(histories, phase, length).with_target_among(coded) if self.config["every_position"] else None
        parts, first = self.prompt_parts(items), self.tokens.first
        return SemidExamples(chosen, together, parts, items, recipe, length, replay, seed, first_code=first)

    def beside_adapter(self, model: PreTrainedModel) -> Mapping[str, int]:
        """The token rows of the domain's codes."""
        return dict.fromkeys(token_tables(model), self.tokens.first)

    def loss(self, model: PreTrainedModel, batch: dict[str, Any]) -> Tensor:
        """Weighted mean cross-entropy of the answers: a code token's over its own level, a word's over all tokens."""
        states, labels = answer_states(model, batch), batch["labels"]
        model = getattr(model, "module", model)  # of DistributedDataParallel
        code = labels - self.tokens.first
        is_code = code >= 0
        code_losses = F.cross_entropy(*self._code_logits(model, states[is_code], code[is_code]), reduction="none")
        words = states[~is_code], labels[~is_code]
        if self.recipe.cross_entropy == "cut":
            word_losses = cut_cross_entropy(model, *words)
        else:
            word_losses = summed_cross_entropy(*words, partial(lm_head_logits, model), vocabulary_of(model))
        weight = self.recipe.code_weight
        total = weight * code_losses.sum() + word_losses
        if self.recipe.divisor == "tokens":
            return total / len(labels)
        return total / (weight * is_code.sum() + (~is_code).sum())

    def _code_logits(self, model: PreTrainedModel, states: Tensor, code: Tensor) -> tuple[Tensor, Tensor]:
        """The logits of all codes of a code's level [T, C], and which of them it is [T].

        states: [T, D]. code: int64 [T], numbered from 0 through all levels.
        """
        levels, per_level = self.level_tokens.shape
        rows = torch.arange(levels * per_level, device=states.device) + self.tokens.first
        found = lm_head_logits(model, states, rows).view(-1, levels, per_level)
        level = (code // per_level)[:, None, None].expand(-1, 1, per_level)
        return found.gather(1, level)[:, 0], code % per_level

    def predictions(self, model: PreTrainedModel, batch: dict[str, Any]) -> list[Predictions]:
        """Among the codes of its level for each code token, and among all tokens for each word."""
        states, labels = answer_states(model, batch), batch["labels"]
        code = labels - self.tokens.first
        is_code = code >= 0
        found = [Predictions(*self._code_logits(model, states[is_code], code[is_code]))]
        if not is_code.all():
            found.append(Predictions(lm_head_logits(model, states[~is_code]), labels[~is_code]))
        return found

    def rank(self, model: PreTrainedModel, histories: Histories, items: Items, targets: np.ndarray) -> np.ndarray:
        """The position of each target in the beam search's list; NOT_RANKED for a target that is not in the list."""
        k, trie, targets = max(self.recipe.beam_width, MIN_RANKED), self.trie(items), np.asarray(targets)
        if self.recipe.hits == "code":  # rank codes: one item represents all items with its code
            representative = self.codes.first_alike(items.candidates)
            trie, targets = self._trie_of(representative[items.candidates]), representative[targets]
        best, _ = self._search(model, histories, items, k, trie)
        return list_ranks(best, targets)

    def recommend(
        self, model: PreTrainedModel, histories: Histories, items: Items, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        return self._search(model, histories, items, k, self.trie(items))

    def _search(
        self, model: PreTrainedModel, histories: Histories, items: Items, k: int, trie: ItemTrie
    ) -> tuple[np.ndarray, np.ndarray]:
        """Beam search for the k best items of a trie: item rows int64 [users, k], scores float32 [users, k]."""
        check_histories(histories)
        trie, parts = trie.to(model.device), self.prompt_parts(items)
        recent = histories.last(self.config["history_length"])
        ask = self._official_prompt if self.official else parts.next_codes_prompt
        prompts = [ask(np.asarray(recent.of(user), np.int64)) for user in range(len(recent))]
        # Prompts of equal length need no padding.
        order = np.argsort([len(prompt) for prompt in prompts], kind="stable")
        best = np.full((len(prompts), k), -1, np.int64)
        scores = np.full((len(prompts), k), -np.inf, np.float32)
        block = USERS_PER_BLOCK.get(model.device.type, 256)
        with searching(self, model) as search_in:
            for start in range(0, len(order), block):
                users = order[start : start + block]
                found = search_in(
                    [prompts[user] for user in users],
                    trie,
                    beam_width=max(k, self.recipe.beam_width),
                    renormalise=self.recipe.renormalise,
                    exclude=_history_items(histories, users).to(model.device) if self.recipe.masked == "own" else None,
                    seeds=torch.from_numpy(histories.users[users]).to(model.device),
                )
                if found.scores.isnan().any():
                    raise ValueError(f"scores of users {users.min()} to {users.max()} hold NaN: the model is broken")
                best[users], scores[users] = found.items[:, :k].cpu().numpy(), found.scores[:, :k].cpu().numpy()
        return best, scores

    def prompt_parts(self, items: Items) -> PromptParts:
        """Token ids of all items' codes and texts; cached, since a sweep uses the same items for every model."""
        if self._parts is None or self._parts[0] is not items:
            self._check(items)
            codes = self.codes.codes
            tokens = np.where(codes >= 0, self.level_tokens[np.arange(codes.shape[1]), codes], -1)
            config = self.config
            parts = PromptParts.of(
                self.tokenizer,
                items,
                tokens,
                config["title_tokens"],
                config["text_tokens"],
                continued=config["every_position"],
            )
            self._parts = (items, parts)
        return self._parts[1]

    def trie(self, items: Items) -> ItemTrie:
        """The trie of the candidates' codes; cached like `prompt_parts`."""
        if self._trie is None or self._trie[0] is not items:
            self._check(items)
            self._trie = (items, self._trie_of(items.candidates))
        return self._trie[1]

    def _trie_of(self, candidates: np.ndarray) -> ItemTrie:
        codes, table = self.codes.codes, self.level_tokens
        if (table < 0).any():
            if self.recipe.renormalise == "level":
                raise ValueError('not every code has a token: set renormalise to "vocabulary" or "children"')
            table = np.where(table < 0, table.max(axis=1, keepdims=True), table)  # of codes that no item has
        if self.official:  # the end-of-text token belongs to the answer, and to its score
            codes = np.column_stack([codes, np.where(codes[:, :1] < 0, -1, 0)])
            table = np.vstack([table, np.full_like(table[:1], self.tokenizer.eos_token_id)])
        return ItemTrie(codes, table, np.unique(candidates))

    @property
    def official(self) -> dict[str, str]:
        """The prompt of LC-Rec's official code, for a checkpoint that was imported from it; else empty."""
        return self.config.get("lc_rec", {})

    def _official_prompt(self, history: np.ndarray) -> np.ndarray:
        return official_prompt(self.official, self.tokenizer, self.tokens, self.codes.codes[history])

    def _check(self, items: Items) -> None:
        if len(self.codes.codes) != len(items):
            raise ValueError(
                f"the checkpoint has semantic IDs of {len(self.codes.codes)} items, but the domain has {len(items)}: "
                "it belongs to another domain, or to another preparation of it"
            )


def _history_items(histories: Histories, users: np.ndarray) -> Tensor:
    """The item rows of these users' whole histories, padded with -1: int64 [B, longest]."""
    sequences = [np.asarray(histories.of(user), np.int64) + 1 for user in users.tolist()]
    return torch.from_numpy(pad_right(sequences) - 1)
