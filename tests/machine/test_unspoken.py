"""What is never told: tokens and passwords."""

import logging

import pytest

from mmgrid.files.foreign import in_one_line
from mmgrid.machine.unspoken import unspoken
from mmgrid.visible import VisibleFormatter

HIDDEN = "hunter2Secret"


@pytest.mark.parametrize(
    "text",
    [
        f"https://me:{HIDDEN}@example.org/x: no such file",
        f"https://{HIDDEN}@example.org/x",
        f"/data/https:/me:{HIDDEN}@example.org/x: a path that was made of an address",
        f"GET https://example.org/x?a=1&token={HIDDEN}&b=2 failed",
        f"https://b.example.org/x?X-Amz-Signature={HIDDEN}",
        f"the token hf_{HIDDEN * 3} is not valid",
    ],
)
def test_secrets_in_addresses_and_tokens_of_known_forms_are_not_told(text: str) -> None:
    shown = unspoken(text)
    assert HIDDEN not in shown
    assert "…" in shown


def test_values_of_secret_variables_are_named_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", HIDDEN)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"{HIDDEN}/aws")
    monkeypatch.setenv("MY_DATA", "/data/amazon")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/home/me/key.json")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "parallel")
    assert unspoken(f"c.toml: format {HIDDEN!r} is unknown") == "c.toml: format '${HF_TOKEN}' is unknown"
    assert HIDDEN not in unspoken(f"{HIDDEN}/aws")
    told = "/data/amazon /home/me/key.json parallel"
    assert unspoken(told) == told


@pytest.mark.parametrize(
    "text", ["s3://lab/demo@2", "org/name@main", "a@b.org", "https://x.org/a?page=2", "linear:0.7@beauty", "C:/a/b@c"]
)
def test_other_texts_stay(text: str) -> None:
    assert unspoken(text) == text


def test_errors_of_cells_and_logs_tell_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", HIDDEN)
    error = ValueError(f"refused: key {HIDDEN}")
    assert in_one_line(error) == "refused: key ${WANDB_API_KEY}"
    record = logging.LogRecord("x", logging.ERROR, __file__, 1, "failed", (), (ValueError, error, None))
    assert HIDDEN not in VisibleFormatter().format(record)
