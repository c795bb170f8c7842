"""Why a training cannot go on."""


class TrainingError(RuntimeError):
    """Training cannot continue; the message says what to change."""
