"""Reading safetensors: files of the library give the same tensors, and errors name damaged files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from mmgrid.merging import MergeError, TensorFolder
from mmgrid.merging.arrays.floats import STORAGE
from mmgrid.merging.models.header import DTYPES
from mmgrid.merging.models.tensor_writer import TensorWriter
from mmgrid.merging.models.tensors import TensorInfo

ALL_TYPES = {
    torch_name: torch.tensor([[1, 0, 1], [0, 1, 1]]).to(getattr(torch, torch_name)) for torch_name, _ in DTYPES.values()
}
TENSORS = {**ALL_TYPES, "scalar": torch.tensor(2.5), "empty": torch.empty(0, 3), "λ": torch.ones(1)}


def _info(tensor: torch.Tensor) -> TensorInfo:
    return TensorInfo(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))


def _whole(folder: TensorFolder, name: str) -> np.ndarray:
    return folder.read(name, 0, folder.info(name).size)


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _stored(tensor: torch.Tensor) -> np.ndarray:
    return np.frombuffer(_bytes(tensor), STORAGE[_info(tensor).dtype])


def _raw(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def _one(**changes: Any) -> dict[str, Any]:
    return {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}}


def test_reads_files_of_the_safetensors_library(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with TensorFolder(tmp_path) as folder:
        assert set(folder) == set(TENSORS)
        for name, tensor in TENSORS.items():
            assert folder.info(name) == _info(tensor)
            assert folder.info(name).bytes == tensor.numel() * tensor.element_size()
            assert _whole(folder, name).tobytes() == _bytes(tensor)
            for start in range(tensor.numel()):
                run = folder.read(name, start, min(start + 2, tensor.numel()))
                assert run.tobytes() == _bytes(tensor.reshape(-1)[start : start + 2])


def test_the_safetensors_library_reads_files_written_in_any_order(tmp_path: Path) -> None:
    paths = [tmp_path / "one.safetensors", tmp_path / "other.safetensors"]
    infos = {name: _info(tensor) for name, tensor in TENSORS.items()}
    for path, names in zip(paths, (list(TENSORS), list(reversed(TENSORS))), strict=True):
        with TensorWriter(path, infos) as writer:
            for name in names:
                stored = _stored(TENSORS[name])
                for start in reversed(range(len(stored))) if path is paths[1] else [0]:
                    writer.write(name, start, stored[start : start + 1] if path is paths[1] else stored)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    read = load_file(paths[0])
    assert {name: tensor.dtype for name, tensor in read.items()} == {n: t.dtype for n, t in TENSORS.items()}
    assert all(read[name].float().equal(TENSORS[name].float()) for name in TENSORS)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty; download the file again"),
        (b"\x01\x00", "too few"),
        (_raw(_one(), bytes(8), length=1 << 60), "too few for its header"),
        (_raw(_one(), bytes(7)), "15|truncated in w"),
        (_raw(_one(), bytes(9)), "accounts for"),
        (_raw(b"{not json", bytes(8)), "not JSON"),
        (_raw(b"[" * 50_000), "not JSON"),
        (_raw(b"\xff\xfe{}"), "not JSON"),
        (_raw([]), "not a JSON object"),
        (_raw(b'{"w": 1, "w": 2}'), "'w' twice"),
        (_raw({"w": None}), "needs dtype, shape"),
        (_raw({"w": {"dtype": "F32"}}), "needs dtype, shape"),
        (_raw(_one(dtype="C64"), bytes(8)), "type 'C64' is not supported"),
        (_raw(_one(dtype=["F32"]), bytes(8)), "is not supported"),
        (_raw(_one(shape=[-2]), bytes(8)), "whole numbers from 0"),
        (_raw(_one(shape=[True]), bytes(8)), "whole numbers from 0"),
        (_raw(_one(shape=2), bytes(8)), "whole numbers from 0"),
        (_raw(_one(data_offsets=[-8, 0]), bytes(8)), "whole numbers from 0"),
        (_raw(_one(data_offsets=[8, 0]), bytes(8)), "does not fill"),
        (_raw(_one(shape=[1 << 62, 1 << 62]), bytes(8)), "does not fill"),
        (_raw({**_one(), "v": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, bytes(8)), "overlaps"),
        (_raw({**_one(), "v": {"dtype": "F32", "shape": [1], "data_offsets": [12, 16]}}, bytes(16)), "a gap"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(MergeError, match=says) as caught:
        TensorFolder(tmp_path)
    assert str(caught.value).startswith(str(path))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_damaged_files_give_an_error_or_their_actual_bytes(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.arange(4.0), "b": torch.ones(2, dtype=torch.bfloat16)}, path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    try:
        with TensorFolder(tmp_path) as folder:
            assert sum(_whole(folder, name).nbytes for name in folder) <= path.stat().st_size
    except MergeError:
        pass


# ---- folders


def _sharded(folder: Path, weight_map: dict[str, str]) -> None:
    for shard in set(weight_map.values()):
        save_file({name: torch.ones(2) for name, place in weight_map.items() if place == shard}, folder / shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_shards(tmp_path: Path) -> None:
    _sharded(tmp_path, {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"})
    with TensorFolder(tmp_path) as folder:
        assert sorted(folder) == ["a", "b", "c"]
        assert _whole(folder, "b").tolist() == [1.0, 1.0]
        assert "d" not in folder


def test_shards_behind_links_as_in_a_download_cache(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    _sharded(tmp_path / "snapshot", {"a": "m.safetensors"})
    (tmp_path / "snapshot" / "m.safetensors").rename(tmp_path / "blobs" / "0123")
    (tmp_path / "snapshot" / "m.safetensors").symlink_to("../blobs/0123")
    assert list(TensorFolder(tmp_path / "snapshot")) == ["a"]


def test_a_single_file_may_have_any_name(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "vectors.safetensors")
    assert list(TensorFolder(tmp_path)) == ["a"]
    assert list(TensorFolder(tmp_path / "vectors.safetensors")) == ["a"]
    save_file({"a": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(MergeError, match=r"holds other\.safetensors, vectors\.safetensors.*name one file"):
        TensorFolder(tmp_path)


@pytest.mark.parametrize(
    ("index", "says"),
    [
        ("{", "not an index"),
        ('{"weight_map": []}', "not an index"),
        ('{"weight_map": {}}', "names none"),
        ('{"weight_map": {"a": 3}}', "not an index"),
        ('{"weight_map": {"a": "../secret.safetensors"}}', "not a path inside"),
        ('{"weight_map": {"a": "/secret.safetensors"}}', "not a path inside"),
        ('{"weight_map": {"a": "m.safetensors", "b": "n.safetensors"}}', r"missing: n\.safetensors"),
        ('{"weight_map": {"a": "m.safetensors", "b": "m.safetensors"}}', "no shard holds: b"),
        ('{"weight_map": {"a": "m.safetensors", "c": "copy.safetensors"}}', "'a' is also in|also in"),
    ],
)
def test_broken_indexes_are_named(tmp_path: Path, index: str, says: str) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "m.safetensors")
    save_file({"a": torch.ones(1), "c": torch.ones(1)}, tmp_path / "copy.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(MergeError, match=says):
        TensorFolder(tmp_path)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ([], "contains no safetensors$"),
        (["pytorch_model.bin"], "pytorch_model.bin is pickled and never read"),
        (["adapter_config.json", "adapter_model.safetensors"], "LoRA adapter.*merge_and_unload"),
    ],
)
def test_folders_without_a_model_are_named(tmp_path: Path, files: list[str], says: str) -> None:
    for name in files:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(MergeError, match=says):
        TensorFolder(tmp_path)
    with pytest.raises(MergeError, match="does not exist"):
        TensorFolder(tmp_path / "nowhere")


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(1000)}, path)
    with TensorFolder(tmp_path) as folder:
        folder.check_unchanged()
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(MergeError, match="became shorter while 'a'"):
            _whole(folder, "a")
        with pytest.raises(MergeError, match="changed while it was read"):
            folder.check_unchanged()
