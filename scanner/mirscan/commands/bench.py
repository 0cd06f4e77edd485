"""`mirscan bench`: how fast models scan here, where the time goes, and how far that is from what the machine can do."""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mirscan.checkpoints.weights import registry
from mirscan.commands.bench_machine import Task, copying, machine, matrix_product, peak_memory, rna_fold
from mirscan.commands.bench_subject import Setting, Subject
from mirscan.devices import configure, local_devices
from mirscan.files.atomic import write_file
from mirscan.files.temporary import scratch
from mirscan.host import cores

HG38_MEGABASES = 3100.0


def bench(
    settings: Sequence[str] = (),
    *,
    rounds: int = 3,
    threads: int | None = None,
    devices: int | None = None,
    precision: str | None = None,
) -> dict[str, Any]:
    """Measure models, by default all with shipped weights, on each accelerator, or one core, and on all devices.

    The scan, its pieces, the machine's peaks and RNA.fold take turns, ``rounds`` times, so that whatever else the
    machine does hits all of them; ratios are medians over rounds.

    Returns
    -------
    dict
        Machine, versions and, for each model and place, rates (per second), seconds per megabase, shares.
    """
    configure(threads)
    chosen = local_devices(devices)
    count = cores(threads)
    on_cpu = chosen[0].platform == "cpu"
    alone = [[device] for device in (chosen[:1] if on_cpu else chosen)]  # the cores of a CPU are alike
    places = [*alone, chosen] if len(chosen) > 1 else alone
    models = []
    with scratch() as folder:
        for text in settings or registry():
            setting = Setting.parse(text, precision)
            runs = []
            for place in places:
                subject = Subject(setting, place, 1 if on_cpu and place != chosen else count, folder)
                with contextlib.closing(subject.genome):
                    runs.append(_measure(subject, rounds))
            models.append({
                "model": setting.model, "precision": subject.precision, "unit": subject.spec.unit,
                "mini_batch": subject.mini, "runs": runs,
                "weights": "shipped" if setting.model in registry() else "random",
            })  # fmt: skip
    return {**machine(), "date": time.strftime("%Y-%m-%d"), "rounds": rounds, "models": models}


def compare(
    first: str,
    second: str,
    *,
    rounds: int = 7,
    threads: int | None = None,
    devices: int | None = None,
    precision: str | None = None,
) -> dict[str, Any]:
    """Two settings, such as ``duplex:float32`` and ``duplex:bfloat16``, scanning in turns on all devices.

    Returns
    -------
    dict
        Megabases a second of each, the ratio of their medians, and the least and greatest ratio of a round.
    """
    configure(threads)
    count = cores(threads)
    with scratch() as folder:
        both = {
            number: Subject(Setting.parse(text, precision), local_devices(devices), count, folder)
            for number, text in enumerate((first, second))
        }
        with contextlib.closing(both[0].genome), contextlib.closing(both[1].genome):
            walls, _ = _take_turns({str(n): Task(each.scan, each.megabases) for n, each in both.items()}, rounds)
    ratios = [a / b for a, b in zip(walls["0"], walls["1"], strict=True)]
    rates = [statistics.median(walls[key]) for key in ("0", "1")]
    return {
        **machine(), "date": time.strftime("%Y-%m-%d"), "rounds": rounds, "compared": [first, second],
        "megabases_per_second": rates, "ratio": rates[0] / rates[1], "spread": [min(ratios), max(ratios)],
    }  # fmt: skip


def keep(result: dict[str, Any], path: Path) -> None:
    """Write the figures of `bench` or `compare` as JSON."""
    write_file(path, (json.dumps(result, indent=1) + "\n").encode())


def _measure(subject: Subject, rounds: int) -> dict[str, Any]:
    """All figures of a model in one place."""
    spec, devices = subject.spec, subject.devices
    tasks = subject.tasks() | {
        "peak": matrix_product(devices, subject.precision), "copy": copying(devices), "fold": rna_fold(),
    }  # fmt: skip
    walls, cpus = _take_turns(tasks, rounds)
    rate = {key: statistics.median(values) for key, values in walls.items()}
    rows = subject.batches * subject.scorer.rows / subject.megabases  # padding is computed too
    per_row, windows = subject.cost_of_row(), 2e6 / spec.step
    busy = rows / rate["device"] * rate["scan"]
    result: dict[str, Any] = {
        "where": f"{len(devices)} x {devices[0].platform} {devices[0].device_kind}",
        "megabases_per_second": rate["scan"],
        "windows_per_second": rate["scan"] * windows,
        "rows_per_second_on_device": rate["device"],
        "times_rna_fold": _ratio(walls, "scan", "fold") * windows,
        "times_rna_fold_per_cpu_second": _ratio(cpus, "scan", "fold") * windows,
        "compile_seconds": max(0.0, subject.compile_seconds),
        "seconds_per_megabase": {
            "scan": 1 / rate["scan"],
            "reading": 1 / rate["reading"],
            "host": 1 / rate["host"],
            "transfer": rows / rate["transfer"],
            "device": rows / rate["device"],
        },
        "device_idle_share": max(0.0, 1 - busy),
        "mflop_per_row": per_row.flops / 1e6,
        "kilobytes_per_row": per_row.bytes / 1e3,
        "peak_gflops": rate["peak"] / 1e9,
        "copy_gigabytes_per_second": rate["copy"] / 1e9,
        "share_of_peak": _ratio(walls, "device", "peak") * per_row.flops,
        "share_of_copy_bandwidth": _ratio(walls, "device", "copy") * per_row.bytes,
        "peak_memory_mib": peak_memory(devices),
        "projection": {
            "hg38_hours": HG38_MEGABASES / rate["scan"] / 3600,
            "hg38_hours_at_peak": HG38_MEGABASES * rows * per_row.flops / rate["peak"] / 3600,
            "basis": "3.1 Gb on both strands at the rates of this run; not measured",
        },
    }
    if "recurrence" in tasks:
        result["recurrence_megabases_per_second"] = rate["recurrence"]
        result["recurrence_times_rna_fold"] = _ratio(walls, "recurrence", "fold") * windows
    return result


def _take_turns(tasks: dict[str, Task], rounds: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Amounts per second, and per CPU-second of all threads, of each task in each round, after one that warms up."""
    walls: dict[str, list[float]] = {key: [] for key in tasks}
    cpus: dict[str, list[float]] = {key: [] for key in tasks}
    for number in range(rounds + 1):
        for key, (run, amount) in tasks.items():
            began, spent = time.perf_counter(), time.process_time()
            run()
            if number:
                walls[key].append(amount / max(time.perf_counter() - began, 1e-9))
                cpus[key].append(amount / max(time.process_time() - spent, 1e-9))
    return walls, cpus


def _ratio(rates: dict[str, list[float]], mine: str, theirs: str) -> float:
    """Median over rounds."""
    return statistics.median(a / b for a, b in zip(rates[mine], rates[theirs], strict=True))


def table(result: dict[str, Any]) -> str:
    """The figures of `bench` or `compare`, one a line."""
    lines = [f"{result['machine']}; {', '.join(result['devices'])}; {result['date']}, {result['rounds']} rounds"]
    if "compared" in result:
        first, second = result["compared"]
        for name, rate in zip(result["compared"], result["megabases_per_second"], strict=True):
            lines.append(f"{name:<36}{_shown(rate)} Mb/s")
        low, high = result["spread"]
        lines.append(f"{first} / {second}: {result['ratio']:.3f}, from {low:.3f} to {high:.3f} in single rounds")
    for model in result.get("models", ()):
        for run in model["runs"]:
            title = f"{model['model']}, {model['precision']}, {model['weights']} weights, {run['where']}"
            lines += ["", f"{title}, {model['mini_batch']} {model['unit']}s at once"]
            lines += _lines(run)
    return "\n".join(lines)


def _lines(figures: dict[str, Any], depth: int = 1) -> list[str]:
    lines = []
    for key, value in figures.items():
        name = f"{'  ' * depth}{key.replace('_', ' ')}"
        if isinstance(value, dict):
            lines += [name, *_lines(value, depth + 1)]
        elif key != "where" and value is not None:
            lines.append(f"{name:<36}{_shown(value)}")
    return lines


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 100 else f"{value:,.0f}"
    return str(value)
