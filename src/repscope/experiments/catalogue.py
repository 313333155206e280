"""Which experiments are there? The explicit tuple, in the order of the papers."""

from repscope.experiments import (
    s1_3_feature_suppression,
    s2_f1_pipeline,
    s2_f5_hard_negatives,
    s2_t1_projection_heads,
    s2_t2_crop_strength,
    s3_f2_sample_and_class_clusters,
    s3_f3_regularization_clusters,
    s3_f7_width_and_depth,
    s3_f10_weight_of_variance,
)
from repscope.experiments.experiment import Experiment

EXPERIMENTS: tuple[Experiment, ...] = (
    s1_3_feature_suppression.EXPERIMENT,
    s2_f1_pipeline.EXPERIMENT,
    s2_f5_hard_negatives.EXPERIMENT,
    s2_t1_projection_heads.EXPERIMENT,
    s2_t2_crop_strength.EXPERIMENT,
    s3_f2_sample_and_class_clusters.CLUSTERS,
    s3_f2_sample_and_class_clusters.RATIOS,
    s3_f3_regularization_clusters.EXPERIMENT,
    s3_f7_width_and_depth.EXPERIMENT,
    s3_f10_weight_of_variance.EXPERIMENT,
)
