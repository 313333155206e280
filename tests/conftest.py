"""What all tests share: the same examples on every run, no display, no colour."""

import os

import hypothesis

os.environ["MPLBACKEND"] = "Agg"
os.environ["NO_COLOR"] = "1"

hypothesis.settings.register_profile(
    "repscope", derandomize=True, deadline=None, database=None
)
hypothesis.settings.load_profile("repscope")
