"""Which rows test a probe, when nobody said: a split by the hash of row ids.

The split depends on ids and labels only, so that two encoders of the same images are
tested on the same ones.
"""

import numpy as np
from jaxtyping import Bool, Int, Shaped, UInt64

from repscope._arrays import hash_ids

TEST_SHARE = 0.2
# Identical rows go to one side together, unless they are this large a share of all:
# where features have collapsed, keeping them together would leave no split.
MAXIMUM_GROUP_SHARE = 0.05


def default_split(
    ids: Shaped[np.ndarray, " n"],
    labels: Int[np.ndarray, " n"],
    row_hashes: UInt64[np.ndarray, " n"],
    *,
    seed: int = 0,
) -> Bool[np.ndarray, " n"]:
    """Return True for the fifth of each class that tests, by the hash of row ids.

    Identical rows share a side. A class of one row trains.

    Args:
        ids: unique row ids.
        labels: class codes to stratify by.
        row_hashes: equal for identical rows.
        seed: another seed gives another split.
    """
    order = hash_ids(ids, seed)
    group = _groups(row_hashes, len(ids))
    n_groups = int(group.max()) + 1
    # A group stands where its first member stands, in that member's class.
    by_hash = np.argsort(order, kind="stable")
    leader = np.full(n_groups, -1)
    leader[group[by_hash[::-1]]] = by_hash[::-1]
    group_class, group_order = labels[leader], order[leader]
    sizes = np.bincount(group)
    is_test = np.zeros(n_groups, dtype=bool)
    for one in np.unique(group_class):
        members = np.flatnonzero(group_class == one)
        members = members[np.argsort(group_order[members], kind="stable")]
        is_test[_testing(members, sizes[members])] = True
    return is_test[group]


def _testing(
    members: Int[np.ndarray, " g"], sizes: Int[np.ndarray, " g"]
) -> Int[np.ndarray, " t"]:
    """Return which groups of a class test: the first fifth, or else the smallest."""
    if len(members) < 2:
        return members[:0]
    wanted = max(1, round(TEST_SHARE * sizes.sum()))
    fits = np.cumsum(sizes) <= wanted
    return members[fits] if fits.any() else members[[sizes.argmin()]]


def _groups(row_hashes: UInt64[np.ndarray, " n"], n: int) -> Int[np.ndarray, " n"]:
    _, group, sizes = np.unique(row_hashes, return_inverse=True, return_counts=True)
    frequent = sizes[group] > max(2, MAXIMUM_GROUP_SHARE * n)
    group[frequent] = len(sizes) + np.arange(frequent.sum())
    return np.unique(group, return_inverse=True)[1]
