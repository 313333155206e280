"""The records that objectives see and give: what is refused, and in which words."""

import pytest
import torch

from objectives.whole_batches import whole_batch
from repscope._checking import InputError
from repscope.objectives.batch import LossOutput, ViewBatch
from repscope.objectives.catalogue import OBJECTIVES


def views(*shape, count=2, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(count, *shape, generator=generator)
    return tuple(drawn.to(dtype))


@pytest.mark.parametrize(
    ("z", "message"),
    [
        ((), "z: no view"),
        ((*views(4, 3, count=1), *views(5, 3, count=1)), r"\(4, 3\) and \(5, 3\)"),
        ((*views(4, 3, count=1), *views(4, 2, count=1)), r"\(4, 3\) and \(4, 2\)"),
        (views(4), r"\(4,\) and \(4,\)"),
        (views(4, 3, 2), r"\(4, 3, 2\)"),
        (views(1, 3), "a batch of 1 has no other image.*(?s:.*)batch_size"),
        (views(0, 3), "a batch of 0 has no other image"),
        (views(4, 3, dtype=torch.int64), "floating-point.*(?s:.*)torch.int64"),
        (
            (*views(4, 3, count=1), *views(4, 3, count=1, dtype=torch.float16)),
            "torch.float16, torch.float32",
        ),
    ],
)
def test_projections_that_cannot_be_compared_are_refused(z, message):
    with pytest.raises(InputError, match=message):
        ViewBatch(h=(), z=z)


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"h": views(5, 8)}, r"h: one entry per image.*(?s:.*)\(5, 8\).*4 rows"),
        ({"targets": views(3, 3)}, "targets: one entry per image"),
        ({"ids": torch.arange(3)}, "ids: one entry per image"),
        ({"labels": torch.tensor(1)}, "labels: one entry per image"),
    ],
)
def test_what_belongs_to_images_has_a_row_for_each(others, message):
    with pytest.raises(InputError, match=message):
        ViewBatch(**({"h": (), "z": views(4, 3)} | others))


def test_representations_may_be_wider_than_projections():
    batch = ViewBatch(h=views(4, 8), z=views(4, 3), ids=torch.arange(4))
    assert len(batch.h[0]) == len(batch.z[0])


@pytest.mark.parametrize("objective", OBJECTIVES.values())
def test_numbers_to_log_carry_no_gradient_and_begin_with_the_loss(objective):
    output = objective()(whole_batch(objective()))
    scalars = output.scalars()
    assert list(scalars)[:3] == ["total", "invariance", "regularization"]
    assert len(scalars) == 3 + len(output.parts) + len(output.stats)
    assert not any(value.requires_grad for value in scalars.values())
    assert output.total.requires_grad
    assert all(torch.isfinite(value) for value in scalars.values())


def test_a_part_that_does_not_exist_is_missing_not_zero():
    one = torch.tensor(1.0)
    scalars = LossOutput(one, None, None, {}, {"bound": one}).scalars()
    assert list(scalars) == ["total", "bound"]
