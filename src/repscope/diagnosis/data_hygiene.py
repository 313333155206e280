"""RS501: do constant features, repeated rows or dropped rows stain the numbers?

An advisory: it says what to know when reading the rest, and does not change the
verdict.
"""

from repscope.diagnosis.check import Check, Evidence, Judgement, absent, undecided
from repscope.records import Status

REMEDIES = ("remove_duplicates", "drop_constant_features", "find_nonfinite")
# So many repeats are named beside the rows they repeat.
NAMED_PAIRS = 3


def decide(evidence: Evidence) -> Judgement:
    """Return whether anything about the data should be known first."""
    shown = evidence.those(
        "dead_features", "duplicate_rows", "leaked_rows", "dropped_rows"
    )
    dead = evidence.value("dead_features")
    repeated = evidence.value("duplicate_rows")
    leaked = evidence.value("leaked_rows")
    dropped = evidence.value("dropped_rows")
    if repeated is None:
        return undecided("One row only: nothing can repeat.", shown)
    told, todo = [], []
    if dead:
        told.append(f"{_percent(dead)} of the features never vary")
        todo.append("constant features cost memory only: drop them")
    if repeated:
        told.append(
            f"{_percent(repeated)} of the rows repeat an earlier one exactly"
            + _pairs(evidence)
        )
        todo.append("remove repeated images")
    if leaked:
        told.append(
            f"{_percent(leaked)} of the test rows also stand among those trained on"
        )
        todo.append("keep copies of an image on one side of the split")
    if dropped:
        told.append(f"{_percent(dropped)} of the rows were dropped for NaN or infinity")
        todo.append("find out where non-finite rows come from")
    if not told:
        return absent("No constant feature, no repeated row, no row dropped.", shown)
    return Judgement(
        Status.FOUND,
        _sentence(told),
        action=_sentence(todo),
        evidence=shown,
        rows=tuple(one.row for one in evidence.repeats),
        remedies=_remedies(repeated=repeated or leaked, dead=dead, dropped=dropped),
    )


def _pairs(evidence: Evidence) -> str:
    """Return the first repeats beside the rows they repeat, and labels that differ."""
    named = [
        f"row {one.row} = row {one.earlier}"
        + (", labelled otherwise" if one.is_relabelled else "")
        for one in evidence.repeats[:NAMED_PAIRS]
    ]
    if not named:
        return ""
    more = " and more" if len(evidence.repeats) > NAMED_PAIRS else ""
    count = evidence.n_relabelled
    labels = f"; in {count:,} of these pairs the labels differ" if count else ""
    return f" ({'; '.join(named)}{more}){labels}"


def _remedies(
    *, repeated: float | None, dead: float | None, dropped: float | None
) -> tuple[str, ...]:
    """Return the remedies of what was seen."""
    seen = (repeated, dead, dropped)
    return tuple(code for code, share in zip(REMEDIES, seen, strict=True) if share)


def _sentence(parts: list[str]) -> str:
    joined = "; ".join(parts)
    return joined[0].upper() + joined[1:] + "."


def _percent(share: float) -> str:
    """Return a share in words that do not round a single row to nothing."""
    return f"{100 * share:.3g}%"


CHECK = Check(
    code="RS501",
    title="data hygiene",
    severity="advisory",
    needs="features",
    name="data_hygiene",
    remedies=REMEDIES,
    decide=decide,
)
