"""On one process; what several do is in tests/training/test_ranks.py."""

import torch

from repscope._gathering import (
    gathered_rows,
    greatest_over_ranks,
    summed_over_ranks,
)


def test_on_one_process_everything_comes_back_as_it_is():
    rows = torch.rand(3, 2, requires_grad=True)
    assert gathered_rows(rows) is rows
    assert summed_over_ranks(rows) is rows
    assert greatest_over_ranks([1, 0], torch.device("cpu")) == [1, 0]
