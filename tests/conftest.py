"""Property tests draw the same examples in every run; CFDG_EXAMPLES=N draws N fresh ones, to search for faults."""

import os

from hypothesis import settings

settings.register_profile("repeatable", derandomize="CFDG_EXAMPLES" not in os.environ)
settings.load_profile("repeatable")
