"""The time of day, as records and events tell it."""

from datetime import UTC, datetime


def utc_now() -> str:
    """Now, in UTC, as ISO 8601 with milliseconds: `2026-01-31T09:05:00.123Z`."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
