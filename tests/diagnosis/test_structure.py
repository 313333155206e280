"""Measurements of structure speak of classes by their names."""

import numpy as np

from repscope.diagnosis.probe_rows import ProbeRows
from repscope.diagnosis.structure import structure_measurements
from repscope.metrics import profiles
from repscope.metrics.metric import metric_of
from repscope.representations.representation import Representation


def test_classes_without_a_right_answer_are_named():
    generator = np.random.default_rng(0)
    labels = np.array(["cat", "dog"] * 50)
    labels[:2] = "eel"  # among the test rows only: no probe can answer it
    features = generator.random((100, 6))
    features[labels == "cat", 1] += 9
    features[labels == "dog", 2] += 9
    given = Representation.of(
        features, labels={"kind": labels}, split=np.arange(100) < 60
    )
    rows = ProbeRows.of(given, np.arange(100), given.is_test, 0)
    entries = [metric_of(profiles.class_deviance), metric_of(profiles.exclusivity)]
    for one in structure_measurements(rows, entries):
        assert one.details["missing"] == ("eel",)
