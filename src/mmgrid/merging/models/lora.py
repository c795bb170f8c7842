"""Reads a PEFT LoRA adapter as the model with the adapter merged into it: θ = base + s B A, computed run by run.

Source: Hu et al., "LoRA: low-rank adaptation of large language models", ICLR 2022, https://arxiv.org/abs/2106.09685;
the scale s is alpha / r, or alpha / √r with rslora (Kalajdzievski 2023, https://arxiv.org/abs/2312.03732).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from mmgrid.merging.arrays.buffers import take
from mmgrid.merging.arrays.floats import is_float, widen
from mmgrid.merging.errors import MergeError, listing
from mmgrid.merging.models.adapter_names import ADAPTER_PREFIX, FACTOR, WRAPPED, with_names_of
from mmgrid.merging.models.adapter_rows import adapter_rows, is_rows, table_of
from mmgrid.merging.models.adapter_settings import ADAPTER_CONFIG, adapter_settings, alpha_of
from mmgrid.merging.models.closing import Closing
from mmgrid.merging.models.declaration import MMGRID_FILE
from mmgrid.merging.models.expert_lora import UnknownPlaceError, expert_updates
from mmgrid.merging.models.low_rank import Factors, LowRankUpdate
from mmgrid.merging.models.passing import Followed, PassingDigest
from mmgrid.merging.models.plain_lora import check_plain, instead
from mmgrid.merging.models.quantised import open_model
from mmgrid.merging.models.settings import CONFIG_FILE, CONV1D_TYPES, settings_of
from mmgrid.merging.models.source import Source
from mmgrid.merging.models.stamps import check_stamp, stamp_of
from mmgrid.merging.models.tensors import TensorFolder, TensorInfo
from mmgrid.merging.models.ties import implied, stored_twice
from mmgrid.merging.models.token_tensors import holds_vocabulary, parts_of_shared
from mmgrid.merging.models.view import SourceView

ADAPTER_FILE = "adapter_model.safetensors"
# Names of states that were not saved by save_pretrained have the adapter's own name in them.
_WITH_ADAPTER = re.compile(
    r"\.(?:lora_A|lora_B|lora_embedding_[AB]|modules_to_save)\.(?P<adapter>\w+)\.(?:weight|bias)$"
)


class LoraFolder(Closing):
    """The tensors of a model with a LoRA adapter merged into it, as `Tensors`. Threads may share it.

    Tensors that the adapter changes are read in float32, unrounded; `TensorInfo.native` is the model's type.

    Args:
        path: the adapter's folder.
        model: the folder of the model that it was trained on.
        below: if that is the folder of an adapter, too: the model of that one, and so on, down to a whole model. The values
            of each are rounded to float32 before the next one is added.

    Raises:
        MergeError: an adapter is not plain LoRA, or does not fit its model.
    """

    def __init__(self, path: Path, model: Path, *below: Path) -> None:
        self.path = path
        self._settings = adapter_settings(path)
        check_plain(path, self._settings)
        file = path / ADAPTER_FILE
        if not file.is_file():
            pickled = " (adapter_model.bin is pickled and never read)" if (path / "adapter_model.bin").exists() else ""
            raise MergeError(f"{path}: holds no {ADAPTER_FILE}{pickled}: save the adapter as safetensors")
        try:
            self._model: Source = LoraFolder(model, *below) if below else open_model(model)
        except MergeError as error:
            raise MergeError(f"{error}. It is the model under the adapter {path}; `onto` names another one") from error
        self._adapter, self._called = with_names_of(self._model, TensorFolder(file))
        self._check_whole()
        self._of_conv1d = settings_of(self._model.companions).get("model_type") in CONV1D_TYPES
        self._own = [path / ADAPTER_CONFIG, file]
        self._own_stamps = [stamp_of(each) for each in self._own]
        untied = self._untie()
        self._replaced: dict[str, str] = {}
        self._changed: dict[str, LowRankUpdate] = {}
        self._rows = adapter_rows(self._adapter, self._model, self._settings, ADAPTER_PREFIX, self._called)
        self._match(untied)
        self._factors = Factors(self._adapter)

    @property
    def under(self) -> Source:
        """The model that it is merged into."""
        return self._model

    @property
    def companions(self) -> Path:
        """The folder of config and tokenizer: the model's, but the adapter's own if it is a checkpoint of a grid."""
        own = all((self.path / name).is_file() for name in (CONFIG_FILE, MMGRID_FILE))
        return self.path if own else self._model.companions

    @property
    def files(self) -> list[Path]:
        """All files that the tensors depend on."""
        return [*self._own, *self._model.files]

    @property
    def stamps(self) -> list[tuple[int, int, int]]:
        return [*self._own_stamps, *self._model.stamps]

    def __iter__(self) -> Iterator[str]:
        return iter(self._model)

    def __len__(self) -> int:
        return len(self._model)

    def __contains__(self, name: object) -> bool:
        return name in self._model

    def info(self, name: str) -> TensorInfo:
        """Type and shape of a tensor, without reading it."""
        info = self._model.info(name)
        if name in self._changed or name in self._rows:
            return TensorInfo("float32", self._before_update(name).shape, native=info.native or info.dtype)
        if name in self._replaced:
            own = self._before_update(name)
            return TensorInfo(own.dtype, own.shape, native=info.native or info.dtype)
        return info

    def _before_update(self, name: str) -> TensorInfo:
        """Type and shape of a tensor without B A: the adapter's own one, or the model's."""
        if name in self._rows:
            info = self._model.info(name)
            return TensorInfo("float32", self._rows[name].shape(info))
        own = self._replaced.get(name)
        return self._model.info(name) if own is None else self._adapter.info(own)

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Elements [start, stop) of a tensor in row-major order, stored as in `floats.STORAGE`."""
        info = self._before_update(name)
        if name in self._rows:
            stored = self._rows[name].read(self._model, self._adapter, name, start, stop)
        elif name in self._replaced:
            stored = self._adapter.read(self._replaced[name], start, stop)
        else:
            stored = self._model.read(name, start, stop)
        if name not in self._changed:
            return stored
        result = take(stop - start)
        np.copyto(result, widen(stored, info.dtype))
        self._factors.add(self._changed[name], info.shape, start, result)
        return result

    def follow(self, digest_of: Callable[[Path], PassingDigest | None]) -> None:
        """Add what is read of the model's files to their digests."""
        if isinstance(self._model, Followed):
            self._model.follow(digest_of)

    def check_unchanged(self) -> None:
        """Check that nobody has written to the files since they were opened.

        Raises:
            MergeError: somebody has.
        """
        for file, stamp in zip(self._own, self._own_stamps, strict=True):
            check_stamp(file, stamp)
        self._model.check_unchanged()

    def close(self) -> None:
        self._model.close()
        self._adapter.close()

    def _check_whole(self) -> None:
        """Check that the adapter holds what was trained.

        Raises:
            MergeError: it is empty, as trainers that divide the weights among processes leave it, or holds whole numbers.
        """
        empty = [name for name in self._adapter if self._adapter.info(name).size == 0]
        if empty or not len(self._adapter):
            what = f"no numbers are in {listing(empty, 2)}" if empty else "it holds no tensors"
            raise MergeError(
                f"{self.path}: {what}, so its training is lost. Gather the weights when saving (DeepSpeed ZeRO-3: "
                "stage3_gather_16bit_weights_on_model_save), and save the adapter again"
            )
        for name in self._adapter:
            if not is_float(dtype := self._adapter.info(name).dtype):
                raise MergeError(f"{self.path}: {name} is {dtype}; what an adapter trains are floating-point numbers")

    def _untie(self) -> dict[str, str]:
        """Show a tied head beside the embeddings if the adapter changes one of them: PEFT leaves the other as it was.

        Where the adapter resizes the vocabulary, the head has grown with the embeddings, and stays tied. Rows of the
        embeddings are the head's, too; rows of the head are not those of the embeddings.

        Returns:
            A tied head that this model shows → its embeddings, of which the adapter has rows.
        """
        own = {name: WRAPPED.sub("", name.removeprefix(ADAPTER_PREFIX)) for name in self._adapter}
        tables = {table_of(plain) for name, plain in own.items() if is_rows(name)}
        own = {name: plain for name, plain in own.items() if not is_rows(name)}
        self._check_shared(set(own.values()))
        plain = {f"{match['module']}.weight" if (match := FACTOR.match(name)) else name for name in own.values()}
        plain |= {table for table in tables if table not in self._model}
        rows = {name: self._adapter.info(stored).shape[:1] for stored, name in own.items()}
        copies = {
            twin: first
            for twin, first in implied(self._model, plain).items()
            if {twin, first} & plain
            and (twin in plain or rows.get(first, ()) in ((), self._model.info(first).shape[:1]))
        }
        if copies:
            self._model = SourceView(self._model, copies=copies)
        stored = stored_twice(self._model) if tables else {}
        return {head: first for head, first in {**stored, **copies}.items() if first in tables}

    def _check_shared(self, own: set[str]) -> None:
        """Check that embeddings that encoder and decoder share are not changed in one place only.

        Raises:
            MergeError: they are; PEFT then leaves the parts with the old ones, and no config says so.
        """

        def changes(tensor: str) -> bool:
            return tensor in own or any(one.startswith(f"{tensor.removesuffix('.weight')}.lora_") for one in own)

        for name in self._model:
            parts = parts_of_shared(name)
            if parts and changes(name) and not all(map(changes, parts)):
                raise MergeError(
                    f"{self.path}: changes {name}, but not the copies of it that encoder and decoder read ({listing(parts)}), "
                    f"so PEFT computes as if it were not there. Take {name.removesuffix('.weight')} out of the adapter's file, "
                    "or train all three"
                )

    def _match(self, untied: Mapping[str, str]) -> None:
        """Find the updates of the model's tensors, and the adapter's tensors that replace others.

        Args:
            untied: tied head that the model shows → its embeddings, of which the adapter has rows.
        """
        factors: dict[str, dict[str, str]] = {}
        for name in (name for name in self._adapter if not is_rows(name)):
            own = name.removeprefix(ADAPTER_PREFIX)
            match = FACTOR.match(own)
            if match is not None:
                factors.setdefault(match["module"], {})[match["kind"]] = name
            elif (plain := WRAPPED.sub("", own)) in self._model:
                self._replaced[plain] = name
            elif named := _WITH_ADAPTER.search(name):
                raise MergeError(
                    f"{self.path}: {name} has the name of the adapter in it ({named['adapter']}), so it was not written by "
                    "save_pretrained, and PEFT would not load it; save the adapter with save_pretrained"
                )
            else:
                raise MergeError(
                    f"{self.path}: tensor {name} is neither LoRA's nor in the model {self._model.path}; only plain LoRA "
                    f"is merged on the fly. {instead(self.path)}"
                )
        tokens = [name for name in self._model if holds_vocabulary(name)]
        one_length = len({self._before_update(name).shape[:1] for name in tokens}) == 1
        for own, name in self._replaced.items():
            shape, there = self._adapter.info(name).shape, self._model.info(own)
            resized = one_length and own in tokens and shape[1:] == there.shape[1:]
            if not resized:
                self._check_shape(own, shape, there)
        changed = {f"{module}.weight" for module in factors}
        if twice := self._rows.keys() & {*changed, *self._replaced}:
            raise MergeError(f"{self.path}: changes {min(twice)} in two ways. {instead(self.path)}")
        own = {*self._rows, *self._replaced}
        self._rows |= {head: self._rows[first] for head, first in untied.items() if head not in own}
        told = self._settings.get("target_parameters") or ()
        experts = {
            module
            for module in factors
            if told and ((tensor := f"{module}.weight") not in self._model or len(self._model.info(tensor).shape) == 3)
        }
        self._changed = {
            f"{module}.weight": self._update_of(module, found)
            for module, found in factors.items()
            if module not in experts
        }
        self._changed |= self._of_experts({module: factors[module] for module in sorted(experts)}, told)

    def _of_experts(self, modules: Mapping[str, Mapping[str, str]], told: Sequence[str]) -> dict[str, LowRankUpdate]:
        """The updates of parameters that are no linear layers, by the names of the model's tensors."""
        try:
            return expert_updates(self._model, self._adapter, modules, told, self._scale)
        except UnknownPlaceError as error:
            raise MergeError(
                f"{self.path}: was trained on parameters that are no linear layers (target_parameters: {listing(told)}), and "
                f"it is not known where they are in the model's file: {error}. {instead(self.path)}"
            ) from error

    def _update_of(self, module: str, found: Mapping[str, str]) -> LowRankUpdate:
        embedding = "lora_embedding_A" in found
        kinds = ("lora_embedding_A", "lora_embedding_B") if embedding else ("lora_A", "lora_B")
        tensor = f"{module}.weight"
        if set(found) != set(kinds):
            raise MergeError(
                f"{self.path}: {module}: has {listing(found)} without its other half; save the adapter again"
            )
        if tensor not in self._model:
            raise MergeError(
                f"{self.path}: changes {tensor}, which the model {self._model.path} lacks; is it the adapter's model? "
                f"{instead(self.path)}"
            )
        down, up = self._adapter.info(found[kinds[0]]), self._adapter.info(found[kinds[1]])
        if len(down.shape) != 2 or len(up.shape) != 2 or down.shape[0] != up.shape[1]:
            raise MergeError(
                f"{self.path}: {module}: only linear layers and embeddings are merged. {instead(self.path)}"
            )
        # Only Conv1D layers store [in, out]. PEFT ignores the setting for others, such as the head, and unsets it then.
        turned = self._settings.get("fan_in_fan_out") or self._of_conv1d
        told = self._settings.get("target_parameters") or ()  # in these, rows are what goes out
        as_parameter = any(f".{tensor}".endswith(f".{one}") for one in told)
        transposed = embedding or (bool(turned) and not holds_vocabulary(tensor) and not as_parameter)
        shape = (up.shape[0], down.shape[1])
        shape = shape[::-1] if transposed else shape
        there = self._before_update(tensor)
        if shape != there.shape and shape[1:] == there.shape[1:] and holds_vocabulary(tensor):
            raise MergeError(
                f"{self.path}: {tensor}: was trained after the vocabulary was resized from {there.shape[0]} to {shape[0]} "
                f"rows, and the adapter does not hold the rows that it began with. {instead(self.path)}"
            )
        self._check_shape(tensor, shape, there)
        called = self._called.get(module, module)  # by which patterns know it; parameters are known by their own names
        scale = self._scale(f"{called}.weight" if as_parameter else called, down.shape[0])
        return LowRankUpdate(found[kinds[0]], found[kinds[1]], scale, transposed)

    def _scale(self, called: str, rank: int) -> float:
        alpha = alpha_of(self._settings, called, self.path / ADAPTER_CONFIG)
        return alpha / (math.sqrt(rank) if self._settings.get("use_rslora") else rank)

    def _check_shape(self, tensor: str, shape: tuple[int, ...], info: TensorInfo) -> None:
        if info.shape != shape or not is_float(info.dtype):
            raise MergeError(
                f"{self.path}: tensor {tensor}: the adapter's is {list(shape)}, the model's {info.dtype} "
                f"{list(info.shape)}; is {self._model.path} the adapter's model?"
            )
