"""Fixtures and settings shared by the tests of families."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("families", deadline=None)  # a busy machine is slow; hanging tests are stopped by pytest
settings.load_profile("families")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Caches digests in a new folder for this test run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
