"""Kill a scan again and again, resume it, and compare its bigWig with that of an undisturbed scan.

    python benchmarks/speed/kill_resume.py --weights FOLDER --kills 20

The genome is made here: random bases with a run of N, gzipped, so that unpacking it can be hit as well. Each run is
killed (SIGKILL) at a random moment between its first line of log and the time at which an undisturbed run would end,
one moment in each of as many equal stretches as there are kills, in random order; the same command then resumes. A
run that ends before it could be killed is compared, and killing goes on with a new scan, a little earlier. Prints one
JSON line; exit code 1 where a byte differs or something half-written is left.
"""

from __future__ import annotations

import argparse
import datetime
import gzip
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PROGRAM = Path(sys.executable).with_name("mirscan")


class Run:
    """One start of the program, up to the first line of its log."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        self.log = self.process.stderr.readline()
        self.began = time.monotonic()

    def killed(self, seconds: float) -> bool:
        """Kill the run so long after its first line; False if it ended by itself before."""
        try:
            self.process.wait(max(0.0, self.began + seconds - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGKILL)
        self.finish()
        return self.process.returncode == -signal.SIGKILL

    def finish(self) -> float:
        """Seconds from the first line of the log to the end."""
        self.log += self.process.communicate()[1]
        if self.process.returncode not in (0, -signal.SIGKILL):
            raise SystemExit(f"exit code {self.process.returncode}:\n{self.log}")
        return time.monotonic() - self.began


def measure(weights: Path, model: str, kills: int, bases: int, part_windows: int, seed: int) -> dict[str, Any]:
    """Scan once undisturbed; then kill and resume scans until there were so many kills and the last one is done."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = "".join(draw.choices("ACGT", k=bases))
        lines = (text[start : start + 70] for start in range(0, bases, 70))
        genome = folder / "genome.fa.gz"
        genome.write_bytes(gzip.compress(f">chr1\n{'N' * 250}\n{chr(10).join(lines)}\n".encode()))

        def start(output: Path) -> Run:
            options = ["--model", model, "--weights", str(weights), "--threads", "1"]
            options += ["--part-windows", str(part_windows), "--per-strand"]
            return Run([str(PROGRAM), "genome", str(genome), "-o", str(output), *options])

        def tracks(output: Path) -> list[bytes]:
            return [output.with_suffix(f"{strand}.bw").read_bytes() for strand in ("", ".plus", ".minus")]

        start(folder / "first.bw").finish()  # compiles, and the next one is as fast as those that will be killed
        seconds = start(folder / "whole.bw").finish()
        expected = tracks(folder / "whole.bw")
        parts = len(list((folder / "whole.bw.store" / "parts").iterdir()))
        moments = [(k + draw.random()) / kills * seconds for k in range(kills)]
        draw.shuffle(moments)
        done_at_kill: list[int] = []
        scans, equal = 1, True
        (folder / "1").mkdir()
        output = folder / "1" / "x.bw"
        while moments:
            if start(output).killed(moments[-1]):
                moments.pop()
                done_at_kill.append(len(list((output.parent / "x.bw.store" / "parts").glob("*.json"))))
            else:
                moments[-1] *= 0.9
                equal = equal and tracks(output) == expected
                scans += 1
                output = folder / str(scans) / "x.bw"
                output.parent.mkdir()
        start(output).finish()
        equal = equal and tracks(output) == expected
        left = [path.name for path in output.parent.rglob("*") if path.name.endswith(".mirscan")]
    return {
        "benchmark": "kill_resume",
        "kills": len(done_at_kill),
        "scans": scans,
        "parts": parts,
        "parts_done_at_kill": done_at_kill,
        "undisturbed_seconds": round(seconds, 2),
        "identical": equal,
        "left_behind": left,
    }


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="folder of weights")
    parser.add_argument("--model", default="mire2e-tiny")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--bases", type=int, default=100_000)
    parser.add_argument("--part-windows", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    result = measure(**vars(parser.parse_args()))
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    print(json.dumps({**result, "machine": machine, "date": datetime.date.today().isoformat()}))
    sys.exit(0 if result["identical"] and not result["left_behind"] else 1)


if __name__ == "__main__":
    main()
