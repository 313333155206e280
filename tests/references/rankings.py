"""How a score ranks right answers above wrong ones, by comparing every pair.

Slow and obvious on purpose: no formula here shares code with the package.
"""


def area_under_roc(scores, positive):
    """Mann, Whitney 1947: the share of pairs in the right order, ties for a half."""
    high = [score for score, one in zip(scores, positive, strict=True) if one]
    low = [score for score, one in zip(scores, positive, strict=True) if not one]
    won = sum((a > b) + (a == b) / 2 for a in high for b in low)
    return won / (len(high) * len(low))


def average_precision(scores, positive):
    """Sum over distinct thresholds of (recall gained) x precision."""
    total, found_before, area = sum(positive), 0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        picked = [
            one
            for score, one in zip(scores, positive, strict=True)
            if score >= threshold
        ]
        found = sum(picked)
        area += (found - found_before) / total * found / len(picked)
        found_before = found
    return area


def error_rate_of_lowest(scores, right, count):
    """The mean over every way to break ties, by sharing what ties at the border."""
    ascending = sorted(scores)
    border = ascending[count - 1]
    pairs = list(zip(scores, right, strict=True))
    below = [one for score, one in pairs if score < border]
    tied = [one for score, one in pairs if score == border]
    errors = below.count(False)
    errors += tied.count(False) * (count - len(below)) / len(tied)
    return errors / count
