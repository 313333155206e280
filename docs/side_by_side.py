"""Print saved reports side by side, as the tables of docs/first-results.md.

Run: python docs/side_by_side.py NAME=REPORT-FOLDER NAME=REPORT-FOLDER ...
"""

import sys
from collections.abc import Mapping

import repscope as rs
from repscope.records import Measurement, Table

SHOWN = (
    "linear_accuracy",
    "squared_hinge_accuracy",
    "ridge_accuracy",
    "knn_accuracy",
    "ncc_accuracy",
    "few_shot_accuracy",
    "ncc_linear_ratio",
    "cdnv",
    "nc1_variability",
    "silhouette",
    "kmeans_ari",
    "kmeans_nmi",
    "tolerance",
    "class_collapse_index",
    "subclass_given_class",
    "suppression_index",
    "alpha",
    "rankme",
    "effective_rank",
    "effective_rank_covariance",
    "effective_rank_correlation",
    "participation_ratio",
    "auroc",
    "error_ratio_lowest",
    "argmax_concentration",
    "uniformity",
    "mean_cosine",
    "hubness",
)


def main() -> None:
    """Load the reports that the words name and print their tables."""
    pairs = (word.partition("=") for word in sys.argv[1:])
    reports = {name: rs.Report.load(folder) for name, _, folder in pairs}
    names = " | ".join(reports)
    write = sys.stdout.write
    write(f"| measurement | {names} |\n|---|{'---|' * len(reports)}\n")
    taken = {
        name: {one.key: one for one in report.measurements}
        for name, report in reports.items()
    }
    keys = dict.fromkeys(key for held in taken.values() for key in held)
    shown = [key for key in keys if _is_shown(key)]
    for key in sorted(shown, key=_place):
        cells = " | ".join(_cell(held, key) for held in taken.values())
        write(f"| {key} | {cells} |\n")
    for name, report in reports.items():
        for table in report.record.tables:
            if table.name == "layers":
                _write_table(name, table)
    write(f"\n| check | {names} |\n|---|{'---|' * len(reports)}\n")
    found = {
        name: {one.code: one for one in report.findings}
        for name, report in reports.items()
    }
    for code, one in next(iter(found.values())).items():
        cells = " | ".join(held[code].status.value for held in found.values())
        write(f"| {code} {one.title} | {cells} |\n")
    for name, report in reports.items():
        seconds = report.record.provenance.seconds
        write(f"\n{name}: **{report.verdict.word}**, {report.verdict.sentence} ")
        write(f"({seconds:.0f} s)\n")


def _is_shown(key: str) -> bool:
    return "@" not in key and key.partition("[")[0] in SHOWN


def _place(key: str) -> int:
    return SHOWN.index(key.partition("[")[0])


def _cell(held: Mapping[str, Measurement], key: str) -> str:
    if key not in held or held[key].value is None:
        return "-"
    one = held[key]
    value = f"{one.value:.3g}"
    low, high = one.interval or (None, None)
    return value if low is None else f"{value} ({low:.3g} to {high:.3g})"


def _write_table(name: str, table: Table) -> None:
    write = sys.stdout.write
    write(f"\n{table.title}: {name}\n\n| {' | '.join(table.columns)} |\n")
    write(f"|{'---|' * len(table.columns)}\n")
    for row in table.rows:
        cells = (f"{x:.3g}" if isinstance(x, float) else f"{x}" for x in row)
        write(f"| {' | '.join(cells)} |\n")


if __name__ == "__main__":
    main()
