"""The sources that the tests of learned merges share. To be looked at only."""

import pytest

from kits.learnable import Sources, make_trained


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return make_trained(tmp_path_factory.mktemp("trained"))
