import pytest
import torch

from repscope._checking import InputError
from repscope.objectives.batch import ViewBatch
from repscope.objectives.objective import Needs, Target
from repscope.objectives.requirements import check_given

VIEW = torch.eye(3)
LABELS = torch.arange(3)
ALL = Needs(
    target=Target((0, 1), 0.9), predictor="byol", labels=True, trained_views=None
)
GIVEN = {
    "z": (VIEW, VIEW),
    "predictions": (VIEW, VIEW),
    "targets": (VIEW, VIEW),
    "labels": LABELS,
}


def test_a_batch_with_all_that_is_needed_or_more_is_taken():
    batch = ViewBatch(h=(), **GIVEN)
    for needs in (ALL, Needs(), Needs(trained_views=1, target=Target((1,), 0.9))):
        check_given("some", needs, batch)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"z": (VIEW,), "predictions": (VIEW,)}, "some: too few views in z"),
        ({"predictions": ()}, "some: there must be one prediction.*\n.*0 for 2"),
        ({"predictions": (VIEW,)}, "1 for 2.*\n.*a predictor such as byol"),
        ({"targets": (VIEW,)}, "targets\n.*found: 1; expected: at least 2"),
        ({"labels": None}, "some: there are no labels\n.*one for each image"),
    ],
)
def test_what_is_missing_is_named(changes, message):
    with pytest.raises(InputError, match=message):
        check_given("some", ALL, ViewBatch(h=(), **(GIVEN | changes)))
