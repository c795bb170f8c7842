"""Fixtures and settings shared by the tests of merging."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("merging", deadline=None)  # a busy machine is slow; hanging tests are stopped by pytest
settings.load_profile("merging")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[None]:
    """Caches digests in a new folder for this test run; compiled loops are kept from one run to the next."""
    folder = tmp_path_factory.mktemp("cache")
    (folder / "mmgrid").mkdir()
    if request.config.cache is not None:
        (folder / "mmgrid" / "kernels").symlink_to(request.config.cache.mkdir("kernels"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield
