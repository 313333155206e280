"""Every metric of the catalogue from plain arrays, in one call."""

import functools
import inspect
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from repscope._arrays import host
from repscope._checking import InputError, Undecidable, check_choice
from repscope.metrics.catalogue import METRICS
from repscope.metrics.ingredients import Ingredients, Missing
from repscope.metrics.labelled_ingredients import (
    PARTICULAR,
    LabelledIngredients,
    Supply,
)
from repscope.metrics.measured_rows import (
    MeasuredRows,
    detached,
    opened,
    other_rows,
)
from repscope.metrics.metric import Estimate, Metric, Need
from repscope.metrics.samples import mean_score
from repscope.records import Measurement
from repscope.representations.representation import Representation

# Not to be had from features and labels: these metrics are called on their own.
FROM_ELSEWHERE: Mapping[Need, str] = {
    "curve": "needs a number for each epoch or layer",
    "images": "needs images",
    "heatmaps": "needs heatmaps",
    "trainings": "needs the answers of two trainings",
}
# What makes their ingredient, where that is not the metric itself.
_BEGUN_BY = {"mutual_information": "repscope.metrics.mine.train_mine"}
# Parameters that hold one value for each test row.
_OF_TEST_ROWS = frozenset(
    {"result", "right", "correct", "correct_with", "ncc_right", "predictions"}
    | {"profiles", "is_test"}
)
# Parameters that are filled although they have a default.
_ALWAYS_GIVEN = frozenset({"seed", "row_hashes"})
_TWO_LEVELS = frozenset({"parents", "coarse"})
_BEYOND = "the value leaves the range of floating-point numbers"


def measure(
    features: Any,
    *,
    names: str | Sequence[str] | None = None,
    labels: Any = None,
    attributes: Mapping[str, Any] | None = None,
    split: Any = None,
    views: Any = None,
    other: Any = None,
    given: Mapping[str, Any] | None = None,
    seed: int = 0,
    drop_nonfinite: bool = False,
) -> tuple[Measurement, ...]:
    """Return the metrics of some features: all that can be taken, or those named.

    Args:
        features: (n, d) array or tensor, a path, a store, or what brings labels, ids
            and layer along: a `Representation`, an `Embedding` or its folder, of which
            the default layer is measured.
        names: metrics of the catalogue, or one of them; all that these data give by
            default.
        labels: one array, or a dictionary of level name -> array, fine to coarse.
        attributes: dictionary of factor -> array: what may compete with the labels.
        split: (n,) train or test per row; by default a stratified fifth tests.
        views: (n, q, d) features of q augmented views of each image.
        other: (n, e) other features of the same rows, to compare with, in all forms
            that features have.
        given: what a metric asks for and features do not tell, by the name of the
            parameter: `occluded`, `transformations`.
        seed: of the default split and of everything drawn.
        drop_nonfinite: leave out rows with NaN or infinity in features, views or other
            features, which `dropped_rows` counts; otherwise they are an error.

    Returns:
        In the order of the catalogue, level by level; a metric that was named and
        cannot be taken has no value and a reason.

    Raises:
        InputError: for bad data, naming what, where and how to mend it.
        UsageError: for a name that is no metric, or a key of `given` that no metric
            asks for.

    Example:
        >>> from repscope.theory.planted import with_exact_spectrum
        >>> features = with_exact_spectrum(50, np.array([1.0, 1.0, 0.0]))
        >>> (one,) = measure(features, names=["effective_rank"])
        >>> round(one.value, 6)
        2.0
    """
    named = _named(names)
    for name in given or ():
        check_choice("ingredient in given", name, _asked_for())
    representation = Representation.of(
        opened(features), labels=labels, attributes=attributes, split=split
    )
    rows = MeasuredRows(
        representation,
        views=detached(views),
        other=other_rows(other, representation),
        given={name: detached(value) for name, value in (given or {}).items()},
    )
    rows = rows.without_nonfinite() if drop_nonfinite else rows
    supply = Supply.of(rows.ingredients(seed))
    taken = (one for entry in named for one in taken_of(entry, supply))
    return tuple(one for one, missing in taken if names is not None or not missing)


def _named(names: str | Sequence[str] | None) -> Sequence[Metric]:
    if names is None:
        return METRICS
    known = {entry.name: entry for entry in METRICS}
    chosen = [names] if isinstance(names, str) else names
    for name in chosen:
        check_choice("metric", name, known)
    return [known[name] for name in chosen]


def _asked_for() -> set[str]:
    """Return what metrics of features ask for, by name."""
    taken = (entry for entry in METRICS if entry.needs not in FROM_ELSEWHERE)
    return {name for entry in taken for name in parameters_of(entry)}


@functools.cache
def parameters_of(entry: Metric) -> tuple[str, ...]:
    """Return the names of what a metric asks for, options left out."""
    parameters = inspect.signature(entry.function).parameters.values()
    return tuple(
        one.name
        for one in parameters
        if one.default is inspect.Parameter.empty or one.name in _ALWAYS_GIVEN
    )


def ingredient(
    name: str, entry: Metric, base: Ingredients, labels: LabelledIngredients | None
) -> Any:
    """Return what a metric's parameter stands for.

    Args:
        name: of the parameter.
        entry: the metric.
        base: what the features give.
        labels: what a label level adds; None without labels.

    Raises:
        Missing: where the user did not give what it is derived from.
        Undecidable: where it cannot be derived from these data.
    """
    if name in base.given:
        return base.given[name]
    particular = PARTICULAR.get((entry.name, name))
    if labels is not None:
        if particular is not None:
            return particular(labels)
        if hasattr(type(labels), name):
            return getattr(labels, name)
    if particular is None and hasattr(type(base), name):
        return getattr(base, name)
    is_of_labels = particular is not None or hasattr(LabelledIngredients, name)
    raise Missing("needs labels" if is_of_labels else f"needs {name}")


def taken_of(entry: Metric, supply: Supply) -> Iterator[tuple[Measurement, bool]]:
    """Yield a metric's measurements, and whether each lacks what the user did not give.

    Args:
        entry: the metric.
        supply: what it may ask for.
    """
    base = supply.base
    for labels in _levels_of(entry, supply):
        try:
            given = arguments_of(entry, base, labels)
        except InputError as error:
            compute: Callable[[], Estimate] = functools.partial(_refuse, _told(error))
            yield _measured(entry, base, labels, compute), False
        except Undecidable as answer:
            compute = functools.partial(_refuse, answer)
            yield _measured(entry, base, labels, compute), isinstance(answer, Missing)
        else:
            compute = functools.partial(evaluated, entry, given, base.unit)
            yield _measured(entry, base, labels, compute), False


def arguments_of(
    entry: Metric, base: Ingredients, labels: LabelledIngredients | None
) -> dict[str, Any]:
    """Return a metric's arguments by name.

    Raises:
        Missing: where the user did not give what they are derived from.
        Undecidable: where they cannot be derived from these data.
    """
    if entry.needs in FROM_ELSEWHERE:
        own = f"{entry.function.__module__}.{entry.name}"
        called = _BEGUN_BY.get(entry.name, own)
        raise Missing(f"{FROM_ELSEWHERE[entry.needs]}: call {called}")
    names = parameters_of(entry)
    return {name: ingredient(name, entry, base, labels) for name in names}


def evaluated(entry: Metric, given: Mapping[str, Any], unit: float = 1.0) -> Estimate:
    """Return a metric's value; the mean where it has one value per row.

    Args:
        entry: the metric.
        given: its arguments by name.
        unit: by which the features were divided.

    Raises:
        Undecidable: where there is no number.
    """
    if unit != 1 and entry.degree is None:
        raise Undecidable(
            f"the features are of size {unit:.0e}: divide them by it first, since this "
            "metric depends on their scale"
        )
    try:
        result = entry.function(**given)
    except InputError as error:
        raise _told(error) from error
    if not isinstance(result, Estimate):
        is_per_row = getattr(result, "ndim", 0) > 0
        result = mean_score(host(result)) if is_per_row else Estimate(float(result))
    return result if unit == 1 else _in_given_units(result, unit, entry.degree or 0)


def _told(error: InputError) -> Undecidable:
    """Return why these data, fit for other metrics, are not fit for one."""
    found = f" (found: {error.found})" if error.found else ""
    return Undecidable(error.what + found)


def _in_given_units(estimate: Estimate, unit: float, degree: int) -> Estimate:
    """Return an estimate of features that were divided by `unit`, for the features."""
    exponent = degree * round(math.log2(unit))
    value, *ends = (
        _times_power_of_two(one, exponent)
        for one in (estimate.value, *(estimate.interval or ()))
    )
    details = {**estimate.details, "features_divided_by": unit}
    interval = (ends[0], ends[1]) if ends else None
    return Estimate(value, interval, details)


def _times_power_of_two(value: float, exponent: int) -> float:
    try:
        product = math.ldexp(value, exponent)
    except OverflowError as error:
        raise Undecidable(_BEYOND) from error
    if value != 0 and abs(product) < sys.float_info.min:
        raise Undecidable(_BEYOND)
    return product


def _levels_of(entry: Metric, supply: Supply) -> Sequence[LabelledIngredients | None]:
    """Return the label levels and attributes that a metric is taken for."""
    names = set(parameters_of(entry))
    is_labelled = any(
        (entry.name, name) in PARTICULAR
        or hasattr(LabelledIngredients, name)
        and not hasattr(Ingredients, name)
        for name in names
    )
    if not is_labelled:
        return (None,)
    levels = supply.levels
    if entry.needs == "attribute":
        levels += supply.attributes
    if names & _TWO_LEVELS:
        levels = tuple(one for one in levels if one.above) or levels[:1]
    return levels or (None,)


def _measured(
    entry: Metric,
    base: Ingredients,
    labels: LabelledIngredients | None,
    compute: Callable[[], Estimate],
) -> Measurement:
    tested = bool(_OF_TEST_ROWS & set(parameters_of(entry))) and base.has_split
    return entry.measured(
        compute,
        n=int(base.is_test.sum()) if tested else base.n,
        d=base.d,
        level=None if labels is None else labels.level.name,
        split="test" if tested else "all",
        layer=base.representation.layer,
    )


def _refuse(answer: Undecidable) -> Estimate:
    raise answer
