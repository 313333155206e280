"""The run in one word, and what to do next."""

from collections.abc import Sequence

from repscope.diagnosis.check import Evidence
from repscope.records import Finding, Status, Verdict

# Without an answer from these no representation is called healthy.
CORE_CODES = frozenset({"RS101", "RS102"})


def verdict_of(findings: Sequence[Finding]) -> Verdict:
    """Return the run in one word: the worst failure found; advisories do not count."""
    counted = [f for f in findings if f.severity != "advisory"]
    found = [f for f in counted if f.status is Status.FOUND]
    open_ones = [f for f in counted if f.status is Status.UNDECIDED]
    decided = [f for f in counted if f.status in (Status.FOUND, Status.ABSENT)]
    rest = f"; undecided: {_named(open_ones)}" if open_ones else ""
    names = _named(found)
    if any(f.code in CORE_CODES for f in found):
        return Verdict(word="COLLAPSED", sentence=f"found: {names}{rest}.")
    if found:
        return Verdict(word="WARN", sentence=f"found: {names}{rest}.")
    core = {f.code for f in decided} & CORE_CODES
    if core != CORE_CODES:
        return Verdict(
            word="UNDECIDED", sentence=f"whether it collapsed cannot be told{rest}."
        )
    return Verdict(word="HEALTHY", sentence=f"no failure found{rest}.")


def _named(findings: Sequence[Finding]) -> str:
    return ", ".join(f"{finding.code} {finding.title}" for finding in findings)


def next_commands(evidence: Evidence) -> tuple[str, ...]:
    """Return at most two commands that would tell more.

    Words in capitals stand for what only the caller knows.
    """
    commands = []
    if not evidence.levels:
        commands.append("repscope diagnose FEATURES --labels LABELS")
    elif not evidence.has_reference:
        commands.append(
            "repscope diagnose FEATURES --labels LABELS --reference REFERENCE"
        )
    commands.append("repscope compare OTHER-REPORT OUT")
    return tuple(commands)
