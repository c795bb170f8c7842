"""The device: a GPU of either make before the CPU, and what it cannot do, said in one line."""

import pytest
import torch

from mmgrid.backbone.device import DeviceError, check_precision, device
from mmgrid.semantic_ids.rqvae import best_device
from mmgrid.training import TrainingRecipe
from mmgrid.training import fit as fit_module


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine whose only GPU is that of a Mac, with macOS 13."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda major, minor: major <= 13)
    return monkeypatch


def test_a_mac_computes_on_mps_and_what_needs_float64_on_its_cpu(mac: pytest.MonkeyPatch) -> None:
    assert device() == "mps"
    assert best_device() == torch.device("cpu")
    mac.setattr(torch.cuda, "is_available", lambda: True)
    assert device() == "cuda"


def test_bf16_is_refused_before_training_where_the_device_lacks_it(mac: pytest.MonkeyPatch) -> None:
    check_precision("float32")
    with pytest.raises(DeviceError, match=r'^precision = "bf16" needs macOS 14 .* \(mps\); set precision = "float32"$'):
        check_precision("bf16")
    mac.setattr(torch.backends.mps, "is_macos_or_newer", lambda major, minor: True)
    check_precision("bf16")
    mac.setattr(torch.cuda, "is_available", lambda: True)
    mac.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    with pytest.raises(DeviceError, match=r"needs a newer GPU"):
        check_precision("bf16")


def test_training_uses_mps_without_pinned_memory(mac: pytest.MonkeyPatch, tmp_path) -> None:
    given = {}
    mac.setattr(fit_module, "TrainingArguments", lambda **values: given.update(values) or _Arguments())
    recipe = TrainingRecipe(epochs=1, batch_size=2, learning_rate=1e-3)
    fit_module._arguments(recipe, tmp_path, 0, 3, 1, 2, None)
    assert (given["use_cpu"], given["dataloader_pin_memory"]) == (False, False)


class _Arguments:
    n_gpu = 1
