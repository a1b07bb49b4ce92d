"""The session's engine of the integration tests, for clients that are not ours."""

from tests.integration.conftest import (
    _session_engine,
    busybox_archive,
    engine,
    own_engine,
    pytest_collection_modifyitems,
)

__all__ = ["_session_engine", "busybox_archive", "engine", "own_engine", "pytest_collection_modifyitems"]
