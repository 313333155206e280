"""All checks, in the order of their codes: the explicit tuple."""

from repscope.diagnosis import (
    class_collapse,
    complete_collapse,
    data_hygiene,
    dimensional_collapse,
    feature_suppression,
    flat_spectrum,
    low_quality_samples,
    measurement_validity,
    shared_features,
)

CHECKS = (
    complete_collapse.CHECK,
    dimensional_collapse.CHECK,
    flat_spectrum.CHECK,
    class_collapse.CHECK,
    feature_suppression.CHECK,
    low_quality_samples.CHECK,
    shared_features.CHECK,
    data_hygiene.CHECK,
    measurement_validity.CHECK,
)
