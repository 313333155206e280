"""What is read from a number's course and from losses, in plain loops.

Slow and obvious on purpose: no formula here shares code with the package.
"""


def saturation(epochs, values, share):
    """The first epoch at which the curve has made `share` of its whole change."""
    level = values[0] + share * (values[-1] - values[0])
    for epoch, value in zip(epochs, values, strict=True):
        rises = values[-1] > values[0]
        if (rises and value >= level) or (not rises and value <= level):
            return epoch
    return epochs[-1]


def semantic_random(semantic, random, of):
    """Larger means that semantics cluster, for accuracies and CDNV."""
    pairs = zip(semantic, random, strict=True)
    return [r / s if of == "cdnv" else s / r for s, r in pairs]


def not_worse(layers, values, intervals):
    """The layers whose number lies in the interval of the greatest one."""
    best = max(values)
    low = intervals[values.index(best)][0]
    return [layer for layer, value in zip(layers, values, strict=True) if value >= low]


def share_of_fall(epochs, part, total, first, last):
    """(part(t0) - part(t1)) / (total(t0) - total(t1)) with means per epoch."""

    def mean(values, epoch):
        own = [v for e, v in zip(epochs, values, strict=True) if e == epoch]
        return sum(own) / len(own)

    fall = mean(part, first) - mean(part, last)
    return fall / (mean(total, first) - mean(total, last))
