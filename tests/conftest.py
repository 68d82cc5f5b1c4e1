"""Every test runs with the verifier of the core on."""

import os

os.environ.setdefault("LOSSC_VERIFY", "1")
