"""The command line: verbs, words on the right stream, exit codes, bad input."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import repscope
from repscope import _command_line
from repscope.cli import main
from repscope.diagnosis.checks import CHECKS
from repscope.metrics.catalogue import METRICS
from repscope.records import RunRecord, from_json
from repscope.report.report import Report
from repscope.theory.planted import sound

COMMAND = [sys.executable, "-m", "repscope"]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """Features of two encoders, one collapsed, and a saved run of each."""
    folder = tmp_path_factory.mktemp("prepared")
    planted = sound(n=400, d=32)
    labels = dict(planted.labels)
    features = planted.features.astype(np.float32)
    collapsed = features.copy()
    collapsed[:, 2:] = collapsed[:, :1]
    np.save(folder / "sound.npy", features)
    np.save(folder / "collapsed.npy", collapsed)
    np.savez(folder / "labels.npz", **labels)
    np.savez(folder / "table.npz", emb=features, **labels)
    for name in ("sound", "collapsed"):
        words = [str(folder / f"{name}.npy"), "--labels", str(folder / "labels.npz")]
        assert main([*words, "-q", "-o", str(folder / f"{name}-report")]) == 0
    return folder


@pytest.fixture
def here(prepared, tmp_path, monkeypatch):
    """A working folder that holds what was prepared."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def undrawn(here, monkeypatch):
    """Save reports without drawing their page, which takes most of the time."""
    monkeypatch.setattr("repscope.report.page.render", lambda record, samples: "")
    return here


@pytest.fixture
def diagnosed(undrawn, monkeypatch):
    """Let each diagnosis be the saved one of the collapsed features."""
    report = Report.load("collapsed-report")
    monkeypatch.setattr(_command_line, "diagnose", lambda store, **options: report)
    return undrawn


def record_of(folder) -> RunRecord:
    return from_json(RunRecord, (Path(folder) / "results.json").read_text())


def run(*words, **environment):
    """Run the command in a process of its own."""
    return subprocess.run(
        [*COMMAND, *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_help_begins_with_examples(words, capsys):
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split()[:2] == ["repscope", "demo"]
    assert lines[4].split()[:4] == ["repscope", "emb.npy", "--labels", "y.npy"]


def test_help_lists_the_exit_codes(capsys):
    main(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    codes = re.search(r"Exit codes: (.*)", said)[1]
    assert re.findall(r"\d+", codes) == ["0", "1", "2", "3", "4", "70", "130", "143"]


@pytest.mark.parametrize(
    "verb",
    ["demo", "train", "embed", "diagnose", "compare", "reproduce", "ls", "doctor"],
)
def test_each_verb_has_help(verb, capsys):
    assert main([verb, "--help"]) == 0
    assert f"repscope {verb}" in capsys.readouterr().out


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"repscope {repscope.__version__}\n"


def test_the_module_is_the_command():
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"repscope {repscope.__version__}\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["diagnos"], "error: there is no command 'diagnos'\n  fix: did you mean diag"),
        (["emb"], "error: there is no command 'emb'\n  fix: did you mean embed?"),
        (["diagnose", "a.npy", "--lables", "y"], "fix: did you mean --labels?"),
        (["--verison"], "error: No such option: --verison\n  fix: did you mean --ver"),
        (["diagnose"], "error: Missing argument 'FEATURES'."),
        (["diagnose", "a.npy", "--seed", "x"], "error: Invalid value for '--seed'"),
        (
            ["ls", "metric"],
            "error: unknown list 'metric'\n  fix: did you mean metrics?",
        ),
        (["compare", "a"], "error: compare needs at least two result folders"),
        (["diagnose", "a.npy", "--fail-on", "RS1"], "error: --fail-on: cannot read"),
    ],
)
def test_a_wrong_word_is_a_usage_error(words, message, capsys):
    assert main(words) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_diagnose_writes_a_folder_and_prints_a_summary(here, capsys):
    assert main(["diagnose", "sound.npy", "--labels", "labels.npz", "-o", "out"]) == 0
    assert {p.name for p in Path("out").iterdir()} >= {"report.html", "results.json"}
    captured = capsys.readouterr()
    verdict = record_of("out").verdict
    assert captured.out.startswith(f"{verdict.word}  ")
    assert "effective_rank" in captured.out
    assert "report: out/report.html" in captured.err
    assert 1 <= len(re.findall(r"^next: repscope", captured.err, re.MULTILINE)) <= 2


@pytest.mark.parametrize("words", [["collapsed.npy"], ["./collapsed.npy"]])
def test_a_file_alone_is_diagnosed(undrawn, words, capsys):
    shutil.rmtree("collapsed-report")
    assert main([*words, "-q"]) == 0
    assert record_of("collapsed-report").verdict.word == "COLLAPSED"


def test_a_file_name_that_is_not_there_is_bad_data(here, capsys):
    assert main(["nothing.npy"]) == 3
    assert "nothing.npy" in capsys.readouterr().err


def test_the_record_holds_the_command(diagnosed):
    words = ["sound.npy", "--labels", "labels.npz", "-q", "-o", "an out"]
    main(words)
    assert record_of("an out").provenance.command == (
        "repscope sound.npy --labels labels.npz -q -o 'an out'"
    )


def test_json_is_the_content_of_results(undrawn, capsys):
    assert main(["sound.npy", "--json", "-o", "out"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(Path("out/results.json").read_text())


def test_quiet_prints_the_verdict_alone(undrawn, capsys):
    assert main(["collapsed.npy", "-q", "-o", "out"]) == 0
    captured = capsys.readouterr()
    assert re.fullmatch(r"COLLAPSED  .*RS102.*\n", captured.out)
    assert captured.err == ""


def test_verbose_prints_every_measurement(undrawn, capsys):
    assert main(["sound.npy", "-v", "-o", "out"]) == 0
    printed = capsys.readouterr().out
    assert all(m.key in printed for m in record_of("out").measurements)


def test_every_option_reaches_the_diagnosis(here, monkeypatch):
    given = {}

    def diagnose(features, **options):
        given.update(options, features=features)
        raise KeyboardInterrupt

    monkeypatch.setattr(_command_line, "diagnose", diagnose)
    Path("pictures").mkdir()
    words = ["table.npz", "--column", "emb", "--labels", "fine,coarse"]
    words += ["--attributes", "coarse", "--images", "pictures"]
    words += ["--reference", "sound.npy", "--seed", "7", "--drop-nonfinite"]
    assert main([*words, "--test", "table.npz"]) == 130
    assert given["features"].name == "table.npz"
    assert [*given["labels"]] == ["fine", "coarse"]
    assert [*given["attributes"]] == ["coarse"]
    assert len(given["labels"]["fine"]) == 400
    test, test_labels = given["test"]
    assert (test.name, len(test_labels["fine"])) == ("table.npz", 400)
    assert given["images"] == Path("pictures")
    assert given["reference"] == "sound.npy"
    assert (given["seed"], given["drop_nonfinite"]) == (7, True)


def test_ids_and_split_reach_the_diagnosis(undrawn):
    ids = np.array([f"image {i}" for i in range(400)])
    np.savez("more.npz", ids=ids, is_train=np.arange(400) < 300)
    words = ["sound.npy", "--labels", "labels.npz:fine", "--ids", "more.npz:ids"]
    assert main([*words, "--split", "more.npz:is_train", "-q", "-o", "out"]) == 0
    samples = Report.load("out").samples.columns
    assert samples["id"][399] == "image 399"
    assert (samples["split"] == "test").tolist() == [False] * 300 + [True] * 100


def test_a_dry_run_reads_no_features_and_writes_nothing(here, capsys, monkeypatch):
    monkeypatch.delattr(_command_line, "diagnose")
    before = sorted(Path().iterdir())
    words = ["table.npz", "--labels", "fine,coarse", "--dry-run", "-o", "out"]
    assert main(words) == 0
    assert sorted(Path().iterdir()) == before
    told = " ".join(capsys.readouterr().out.split())
    assert "table.npz: 400 x 32 float32" in told
    assert re.search(r"fine \(\d+ values\), coarse \(\d+ values\)", told)
    assert "linear_accuracy" in told
    assert re.search(r"about 0\.\d GB of memory and \d s", told)


def test_a_dry_run_without_labels_measures_less(here, capsys):
    assert main(["sound.npy", "--dry-run", "--json", "-o", "out"]) == 0
    measured = json.loads(capsys.readouterr().out)["would do"]["measures"]
    assert "effective_rank" in measured
    assert "linear_accuracy" not in measured


def test_a_folder_in_use_is_refused_before_computing(here, capsys, monkeypatch):
    monkeypatch.delattr(_command_line, "diagnose")
    assert main(["sound.npy"]) == 2
    assert capsys.readouterr().err == (
        "error: the output folder sound-report is not empty\n"
        "  fix: --overwrite replaces the report in it; -o names another folder\n"
    )


def test_overwrite_replaces_the_report_and_keeps_what_is_not_its_own(undrawn):
    Path("sound-report/notes.txt").write_text("mine")
    before = record_of("sound-report").provenance
    assert main(["sound.npy", "--overwrite", "-q"]) == 0
    assert record_of("sound-report").provenance != before
    assert Path("sound-report/notes.txt").read_text() == "mine"


def test_an_empty_folder_is_used(diagnosed):
    Path("out").mkdir()
    assert main(["sound.npy", "-q", "-o", "out"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sound.npy", "-o", "labels.npz"], "the output labels.npz is a file"),
        (["shards", "-o", "shards/out"], "shards/out lies inside shards"),
        (["shards", "-o", "shards", "--overwrite"], "shards lies inside shards"),
        (["sound.npy", "--images", "shards", "-o", "shards/x"], "lies inside shards"),
        (
            ["compare", "sound-report", "collapsed-report", "-o", "sound-report"],
            "sound-report lies inside sound-report",
        ),
    ],
)
def test_what_is_read_is_never_written_to(here, words, message, capsys):
    Path("shards").mkdir()
    shutil.copy("sound.npy", "shards/0.npy")
    assert main(words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("gates", "code", "said"),
    [
        (["RS102"], 1, ["gate failed: RS102 dimensional collapse: found"]),
        (["effective_rank>0", "any"], 1, ["gate failed: effective_rank "]),
        (["RS101", "effective_rank<1"], 0, []),
        (["RS777"], 2, ["error: unknown finding code 'RS777'"]),
        (["efective_rank<1"], 2, ["fix: did you mean effective_rank?"]),
        (["effective_rank<baseline"], 2, ["needs a baseline"]),
    ],
)
def test_gates_decide_the_exit_code(diagnosed, gates, code, said, capsys):
    words = [word for gate in gates for word in ("--fail-on", gate)]
    assert main(["collapsed.npy", "-q", "-o", "out", *words]) == code
    errors = capsys.readouterr().err
    assert all(line in errors for line in said)
    assert bool(errors) == bool(said)
    refused = any("unknown" in line or "mean" in line for line in said)
    assert Path("out/report.html").exists() != refused  # before anything is computed


def test_compare_prints_and_saves(here, capsys):
    assert main(["compare", "sound-report", "collapsed-report"]) == 0
    assert record_of("comparison-report").kind == "comparison"
    printed = capsys.readouterr().out
    assert printed.startswith("COMPARED  ")
    assert re.search(r"RS102 +dimensional collapse +absent +found", printed)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (
            ["sound-report", "collapsed-report", "--fail-on", "RS102"],
            1,
            "gate failed: collapsed-report: RS102 dimensional collapse: found",
        ),
        (["collapsed-report", "sound-report", "--fail-on", "RS102"], 0, ""),
        (
            ["sound-report", "collapsed-report", "--fail-on", "rankme<0.9*baseline"],
            1,
            "gate failed: collapsed-report: rankme ",
        ),
        (
            ["sound-report", "sound-report", "--fail-on", "rankme<0.9*baseline"],
            0,
            "",
        ),
    ],
)
def test_gates_of_a_comparison_judge_each_run_but_the_first(
    undrawn, words, code, said, capsys, monkeypatch
):
    monkeypatch.setattr(
        _command_line, "compare", lambda *folders: Report.load(folders[0])
    )
    assert main(["compare", *words, "-q", "-o", "out"]) == code
    errors = capsys.readouterr().err
    assert said in errors
    assert bool(errors) == bool(said)


def test_a_folder_without_a_run_is_bad_data(here, capsys):
    Path("empty").mkdir()
    assert main(["compare", "sound-report", "empty"]) == 3
    assert "empty" in capsys.readouterr().err


def test_ls_metrics_prints_each_with_its_formula(capsys):
    assert main(["ls", "metrics"]) == 0
    printed = capsys.readouterr().out
    entries = re.findall(r"^(\w+)$", printed, flags=re.MULTILINE)
    assert entries == [metric.name for metric in METRICS]
    assert printed.count("  formula ") == len(METRICS)


def test_ls_metrics_tells_all_of_an_entry_within_the_width(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["ls", "metrics"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    first = lines[lines.index("cdnv") + 1 :]
    told = [line.split()[0] for line in first[: first.index("")] if line[2] != " "]
    assert told == [
        *("title", "family", "formula", "needs", "minimum_n", "degree", "invariances"),
        *("cost", "range", "direction", "source", "misleads"),
    ]


def test_ls_as_json_holds_everything(capsys):
    assert main(["ls", "metrics", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["effective_rank"]["source"]
    assert listed["effective_rank"]["misleads"]


def test_ls_alone_says_what_can_be_listed(capsys):
    assert main(["ls"]) == 0
    printed = capsys.readouterr().out
    assert re.findall(r"^repscope ls (\w+)$", printed, re.M) == [
        *("metrics", "checks", "protocols"),
        *("objectives", "encoders", "heads", "experiments"),
    ]


def test_ls_protocols_prints_every_parameter(capsys):
    assert main(["ls", "protocols"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    both = "each of 2 views RandomResizedCrop(size=32, scale=(0.08, 1)"
    assert both in printed
    assert "barlow source Zbontar et al. 2021" in printed
    assert "views 3 to 8 RandomResizedCrop(size=96, scale=(0.05, 0.14)" in printed
    assert "Solarize(threshold=0.501961, p=0.2)" in printed


def test_ls_checks_prints_each_code(capsys):
    assert main(["ls", "checks"]) == 0
    codes = re.findall(r"^(RS\d+)$", capsys.readouterr().out, flags=re.MULTILINE)
    assert codes == [check.code for check in CHECKS]


def test_doctor_tells_versions(capsys):
    assert main(["doctor"]) == 0
    assert re.search(r"numpy +" + re.escape(np.__version__), capsys.readouterr().out)


def test_doctor_fails_where_something_is_missing(capsys, monkeypatch):
    report = {"versions": {}, "missing": {"scipy": 'pip install "scipy>=1.13"'}}
    monkeypatch.setattr("repscope._environment.report", lambda folder: report)
    assert main(["doctor", "--json"]) == 4
    assert json.loads(capsys.readouterr().out) == report


def fail_with(monkeypatch, error):
    def diagnose(features, **options):
        raise error

    monkeypatch.setattr(_command_line, "diagnose", diagnose)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (MemoryError("37 GiB"), 4, "error: not enough memory: 37 GiB\n  fix: close"),
        (MemoryError(), 4, "error: not enough memory: no more to be had\n"),
        (
            PermissionError(13, "Permission denied", "out"),
            4,
            "error: Permission denied: out\n",
        ),
        (OSError(28, "No space left on device"), 4, "error: No space left on device\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
        (
            ZeroDivisionError("by zero"),
            70,
            "error: this is a bug in repscope: ZeroDivisionError: by zero\n"
            "  fix: run it again with --debug",
        ),
    ],
)
def test_each_failure_has_its_exit_code(
    here, monkeypatch, capsys, error, code, message
):
    fail_with(monkeypatch, error)
    assert main(["sound.npy", "-q", "-o", "out"]) == code
    said = capsys.readouterr().err
    assert said.startswith(message)
    assert "Traceback" not in said
    assert not Path("out").exists()


def test_debug_shows_the_traceback_of_a_bug(here, monkeypatch, capsys):
    fail_with(monkeypatch, ZeroDivisionError("by zero"))
    assert main(["sound.npy", "--debug", "-o", "out"]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_words_of_an_error_cannot_steer_the_terminal(here, capsys):
    assert main(["diagnose", "a\x1b[31mb.npy"]) == 3
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")],
)
def test_a_signal_ends_the_run_with_its_code(number, code, said):
    script = textwrap.dedent(
        """
        import sys, time, types
        def list_catalogue(what, as_json):
            print("running", flush=True)
            time.sleep(60)
        work = types.ModuleType("repscope._command_line")
        work.list_catalogue = list_catalogue
        sys.modules["repscope._command_line"] = work
        from repscope.cli import main
        sys.exit(main(["ls", "metrics"]))
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "running\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code
    assert errors == f"error: {said}\n  fix: run the same command again\n"


def leave_while(words):
    """Run with a reader of standard output that has already gone."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*COMMAND, *words], stdout=writing, stderr=subprocess.PIPE, check=False
    )
    os.close(writing)
    return done


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--help"], 0),
        (["doctor"], 0),
        (["collapsed.npy", "-q", "-o", "out", "--fail-on", "any"], 1),
    ],
)
def test_a_reader_that_leaves_is_no_error(here, words, code):
    done = leave_while(words)
    assert done.returncode == code
    assert b"Traceback" not in done.stderr
    assert b"Broken" not in done.stderr


def test_a_locale_without_letters_gets_escapes(here):
    np.savez("words.npz", **{"größe": np.arange(400) % 2})
    words = ("sound.npy", "--labels", "words.npz", "-v", "-o", "out")
    done = run(*words, PYTHONIOENCODING="ascii", LC_ALL="C")
    assert done.returncode == 0
    assert r"linear_accuracy[gr\xf6\xdfe]" in done.stdout


@pytest.mark.parametrize("columns", ["40", "80"])
def test_a_narrow_terminal_will_do(diagnosed, monkeypatch, capsys, columns):
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["sound.npy", "-o", "out"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= int(columns)
