"""All metrics, family by family: the explicit tuple."""

from repscope.metrics import (
    augmented,
    clustering,
    failure,
    hierarchy,
    hygiene,
    neighbours,
    power_law,
    probing,
    samples,
    sharing,
    spectral,
)
from repscope.metrics.metric import Metric, metric_of

METRICS: tuple[Metric, ...] = tuple(
    metric_of(function)
    for function in (
        # spectrum
        power_law.alpha,
        spectral.rankme,
        spectral.effective_rank,
        spectral.effective_rank_covariance,
        spectral.effective_rank_correlation,
        spectral.participation_ratio,
        spectral.stable_rank,
        spectral.n_components,
        spectral.anisotropy,
        spectral.spectral_flatness,
        spectral.relative_dispersion,
        spectral.dead_features,
        # per sample
        samples.feature_mean,
        samples.feature_std,
        samples.soft_sparsity,
        samples.l1_norm,
        samples.z_max,
        samples.q_score,
        samples.q_score_normalized,
        samples.gini,
        samples.hoyer,
        # shared features and low scores
        sharing.argmax_concentration,
        sharing.shared_feature_index,
        sharing.low_score_share,
        # views
        augmented.alignment,
        augmented.invariance_score,
        # classes
        probing.ncc_accuracy,
        clustering.cdnv,
        clustering.within_variance,
        clustering.between_squared_distance,
        clustering.variance_share,
        clustering.class_collapse_index,
        hierarchy.subclass_given_class,
        # probes
        probing.linear_accuracy,
        probing.ridge_accuracy,
        neighbours.knn_accuracy,
        hierarchy.suppression_index,
        # failure prediction
        failure.auroc,
        failure.auprc_correct,
        failure.auprc_error,
        failure.error_ratio_lowest,
        # hygiene
        hygiene.duplicate_rows,
        hygiene.leaked_rows,
        hygiene.dropped_rows,
    )
)
