"""What do `import repscope` and `repscope --help` cost over a bare interpreter?

Run: python benchmarks/bench_start.py
"""

import subprocess
import sys
import time

from machine import describe

RUNS = 15
COMMANDS = {
    "bare interpreter": ["-c", "pass"],
    "import repscope": ["-c", "import repscope"],
    "import numpy": ["-c", "import numpy"],
    "repscope --help": ["-m", "repscope", "--help"],
    "repscope --version": ["-m", "repscope", "--version"],
}


def main() -> None:
    print(describe())
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(RUNS):
        for name, arguments in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run(
                [sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL
            )
            times[name].append(time.perf_counter() - started)
    bare = sorted(times["bare interpreter"])[RUNS // 2]
    for name, measured in times.items():
        median = sorted(measured)[RUNS // 2]
        print(f"{name:20} {median * 1000:6.0f} ms   {median / bare:5.1f} x bare")


if __name__ == "__main__":
    main()
