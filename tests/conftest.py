"""Every test runs with the verifier of the core on, and the garbage collector does not go through the tests themselves."""

import gc
import os

import pytest

os.environ.setdefault("LOSSC_VERIFY", "1")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Ten thousand collected tests stay to the end: each full collection would visit all their objects in vain."""
    gc.collect()
    gc.freeze()
