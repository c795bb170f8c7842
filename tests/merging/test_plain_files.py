"""What is no file in a model's folder is refused before it is read: a pipe has no end, and a broken link is no config."""

import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from mmgrid.merging.errors import MergeError
from mmgrid.merging.models.sources import open_source


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "adapter_config.json"])
@pytest.mark.parametrize("kind", ["is a named pipe", "is a device"])
def test_a_pipe_or_a_device_in_a_models_folder_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    save_file({"w.weight": np.ones((2, 2), np.float32)}, tmp_path / "model.safetensors")
    open_source(tmp_path).close()
    (tmp_path / name).unlink(missing_ok=True)
    if kind == "is a named pipe":
        os.mkfifo(tmp_path / name)
    else:
        (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(MergeError, match=rf"{name}: {kind}"):
        open_source(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer.model"])
@pytest.mark.parametrize(
    ("kind", "said"), [("folder", "is a folder"), ("gone", "leads to no file"), ("loop", "leads to no")]
)
def test_a_folder_or_a_broken_link_under_the_name_of_a_file_is_refused(
    tmp_path: Path, name: str, kind: str, said: str
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    save_file({"w.weight": np.ones((2, 2), np.float32)}, tmp_path / "model.safetensors")
    (tmp_path / "README.md").symlink_to("gone")  # nobody reads it
    (tmp_path / "onnx").mkdir()
    open_source(tmp_path).close()
    (tmp_path / name).unlink(missing_ok=True)
    if kind == "folder":
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).symlink_to("gone" if kind == "gone" else name)
    with pytest.raises(MergeError, match=rf"{name}: .*{said}"):
        open_source(tmp_path)
