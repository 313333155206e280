"""Does a batch hold what an objective needs? Asked before it is read."""

from repscope._checking import InputError
from repscope.objectives.batch import ViewBatch
from repscope.objectives.objective import Needs


def check_given(name: str, needs: Needs, batch: ViewBatch) -> None:
    """Raise InputError unless the networks gave what an objective needs.

    Args:
        name: of the objective, for messages.
        needs: of the objective.
        batch: may hold more.

    Raises:
        InputError: where views, predictions, targets or labels are missing.
    """
    trained = needs.least_views if needs.trained_views is None else needs.trained_views
    _check_count(name, "z", len(batch.z), trained)
    if needs.predictor is not None and len(batch.predictions) != len(batch.z):
        raise InputError(
            f"{name}: there must be one prediction for each view in z",
            found=f"{len(batch.predictions)} for {len(batch.z)}",
            fix=f"pass z through a predictor such as {needs.predictor}",
        )
    if needs.target is not None:
        _check_count(name, "targets", len(batch.targets), len(needs.target.views))
    if needs.labels and batch.labels is None:
        raise InputError(f"{name}: there are no labels", fix="give one for each image")


def _check_count(name: str, field: str, found: int, least: int) -> None:
    if found < least:
        raise InputError(
            f"{name}: too few views in {field}",
            found=str(found),
            expected=f"at least {least}",
        )
