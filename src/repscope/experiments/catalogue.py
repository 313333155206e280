"""Which experiments are there? The explicit tuple, in the order of the papers."""

from repscope.experiments import s1_3_feature_suppression
from repscope.experiments.experiment import Experiment

EXPERIMENTS: tuple[Experiment, ...] = (s1_3_feature_suppression.EXPERIMENT,)
