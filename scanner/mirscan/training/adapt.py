"""Fit the last layers of the own model to a genome: its own hairpins are the background they are ranked against.

Almost none of a genome's hairpins is a precursor, so without a single label they tell what the background of a new
clade looks like. The last layers learn again to keep known precursors, remembered by what the networks found in them,
apart from that background; for each fold of the genome from the others, so that no hairpin is held against itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from mirscan.checkpoints import weights
from mirscan.devices import configure
from mirscan.errors import InputError
from mirscan.files.kinds import WEIGHTS
from mirscan.genome import Genome, open_genome
from mirscan.genome.halves import draw_blocks, fold_of
from mirscan.host import cores
from mirscan.models import filled
from mirscan.models.duplex import FOLDS, Findings, Judgement
from mirscan.paths import Paths
from mirscan.structure.copies import count_copies
from mirscan.structure.engines import NUMBA, over_tiles
from mirscan.structure.hairpins import MARGIN, Hairpins, find_hairpins, in_order
from mirscan.structure.turner import turner_tables
from mirscan.training.loop import Recipe, fit, runner
from mirscan.training.losses import findings_cross_entropy

MODEL = "duplex"
ADAPTED = "duplex-adapted"
"""The models that are adapted, and that result."""
LEAST = 1_000_000
"""Unambiguous bases below which a genome has too few hairpins to learn from."""
PRECURSORS = "precursors.npz"
"""Beside a model's weights: ``findings`` (float16, (P, members, dense)) in precursors it was trained on."""
DRAWS = 200_000
"""Findings of an epoch."""
REMEMBERED = 4096
CHECKED = 4
"""One precursor in so many is kept for the check."""
RATES = (5, 20, 100)
"""Hairpins of the background per megabase above which precursors are counted in the check."""
Predict = Callable[[dict[str, np.ndarray]], np.ndarray]


@dataclass(frozen=True)
class Refit:
    """Last layers learned again, and whether that was for the better."""

    judgements: list[dict[str, Any]]
    """Of each fold, as plain trees."""
    before: float
    """Mean share of precursors that were kept aside above `RATES` hairpins a megabase, by the layers as shipped."""
    after: float
    """The same by the layers learned again."""
    used: bool
    """Whether those were better in every fold; else ``judgements`` are the shipped ones."""


def adapt(
    genome: Genome,
    source: Path,
    folder: Path,
    *,
    threads: int = 1,
    seed: int = 0,
    log: Callable[[str], None] = lambda line: None,
) -> Refit:
    """Write weights of `ADAPTED` for a genome, which is looked at as a whole whatever is scanned of it.

    Parameters
    ----------
    source : Path
        Weights of `MODEL`.
    folder : Path
        Where the weights go; an older adaptation there is replaced.
    seed : int
        Draws the blocks and the order of learning.

    Raises
    ------
    InputError
        If the genome is too small, the weights do not come with findings in precursors, or the folder is not ours.
    """
    check_adapted(folder)
    known = _remembered(source)
    total = sum(contig.length - contig.ambiguous for contig in genome.contigs)
    if total < LEAST:
        raise InputError(f"{genome.path}: {total:,} unambiguous bases; adapting needs at least {LEAST:,}")
    tree = weights.restore(source)
    blocks = draw_blocks([contig.length for contig in genome.contigs], seed)
    looked, length = sum(end - start for _, start, end in blocks), sum(contig.length for contig in genome.contigs)
    log(f"adapting to {looked:,} of {length:,} bases")
    findings, folds = look(_findings(tree), genome, blocks, threads)
    contig, start, end = np.array(blocks).T
    megabases = np.bincount(fold_of(contig, start, start, FOLDS), end - start, minlength=FOLDS) / 1e6
    found = refit(tree, known, findings, folds, megabases, seed, log)
    adapted = {"findings": tree, "judgements": {str(fold): each for fold, each in enumerate(found.judgements)}}
    about = {"model": ADAPTED, "seed": seed, "before": found.before, "after": found.after, "used": found.used}
    weights.save(folder, adapted, about | _inputs(genome, source), half=True)
    return found


def adapt_file(
    genome: Path | str,
    folder: Path,
    *,
    source: Path | None = None,
    seed: int = 0,
    threads: int | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> Refit:
    """As `adapt`, of a genome in a file and with the shipped weights unless others are given.

    Raises
    ------
    InputError
        If the genome cannot be read, or the folder holds something else.
    """
    source = source or weights.find(MODEL)
    paths = Paths().reads("the genome", genome).reads_folder("--weights", source, WEIGHTS)
    paths.makes("--output", folder, WEIGHTS).look()
    check_adapted(folder)
    configure(threads)
    count = cores(threads)
    with open_genome(genome, spool=folder) as opened:
        return adapt(opened, source, folder, threads=count, seed=seed, log=log)


def refit(
    tree: dict[str, Any],
    known: np.ndarray,
    findings: np.ndarray,
    folds: np.ndarray,
    megabases: Sequence[float] | np.ndarray,
    seed: int = 0,
    log: Callable[[str], None] = lambda line: None,
) -> Refit:
    """Learn the last layers of an ensemble again, for each fold from the background of the others.

    Parameters
    ----------
    tree : dict
        Weights of the ensemble.
    known, findings : (P, members, dense), (H, members, dense) float16
        What its networks find in precursors, and in the hairpins of a genome.
    folds : (H,) uint8
    megabases : sequence of float
        Sequence of each fold.
    """
    shipped = last_layers(tree)
    kept = np.arange(len(known)) % CHECKED == 0
    judgements, shares = [], []
    for fold in range(FOLDS):
        judgements.append(learn(shipped, known[~kept], findings[folds != fold], seed + fold))
        own = findings[folds == fold]
        shares.append([share_above(each, known[kept], own, megabases[fold]) for each in (shipped, judgements[-1])])
    before, after = np.mean(shares, axis=0).tolist()
    used = bool((np.diff(shares, axis=1) > 0).all())
    log(f"precursors above {RATES} hairpins a megabase: {before:.3f} of them, adapted {after:.3f}")
    if not used:
        log("the adapted layers are not better in every fold: the shipped ones stay")
    return Refit(judgements if used else [shipped] * FOLDS, before, after, used)


def remember(tree: dict[str, Any], precursors: Hairpins, chance: np.ndarray, count: int = REMEMBERED) -> np.ndarray:
    """Findings (float16, (count, members, dense)) in precursors, drawn by their weights in training."""
    rows = np.random.default_rng(0).choice(len(chance), count, replace=False, p=chance / chance.sum())
    return findings_in(tree, precursors.take(rows))


def findings_in(tree: dict[str, Any], found: Hairpins) -> np.ndarray:
    """What the networks of an ensemble find in hairpins, float16 (H, members, dense)."""
    return _findings(tree)({"duplexes": found.duplexes, "scalars": found.scalars}).astype(np.float16)


def last_layers(tree: dict[str, Any]) -> dict[str, Any]:
    """The layers of an ensemble that are learned again, as a tree of `mirscan.models.duplex.Judgement`."""
    return {"members": {m: {"0": t["dense"]["1"], "1": t["dense"]["2"]} for m, t in tree["members"].items()}}


def check_adapted(folder: Path) -> None:
    """Refuse a folder with weights of another kind, which adapted ones would replace.

    Raises
    ------
    InputError
        Naming the folder.
    """
    if WEIGHTS.is_ours(folder) and _described(folder).get("model") != ADAPTED:
        raise InputError(f"{folder}: holds no adapted weights but others; choose another folder")


def is_adapted(folder: Path, genome: Genome, source: Path) -> bool:
    """Whether a folder holds weights that were adapted to this genome from this source."""
    about = _described(folder) if weights.recover(folder) else {}
    return all(about.get(key) == value for key, value in _inputs(genome, source).items())


def look(
    predict: Predict, genome: Genome, blocks: list[tuple[int, int, int]], threads: int
) -> tuple[np.ndarray, np.ndarray]:
    """Findings (float16, (H, members, dense)) of all hairpins of some blocks, and their folds (uint8)."""
    copies = count_copies(genome.codes, [contig.length for contig in genome.contigs])
    tables = turner_tables()
    findings, folds = [], []
    for contig, start, end in blocks:
        low, high = max(0, start - MARGIN), min(genome.contigs[contig].length, end + MARGIN)
        codes = genome.codes(contig, low, high)

        def piece(first: int, last: int, codes: np.ndarray = codes, shift: int = start - low) -> Hairpins:
            return find_hairpins(codes, shift + first, shift + last, tables=tables, copies=copies)

        found = in_order(over_tiles(piece, end - start, threads, tile=NUMBA.piece))
        if found.size:
            findings.append(predict({"duplexes": found.duplexes, "scalars": found.scalars}).astype(np.float16))
            folds.append(fold_of(contig, found.starts + low, found.ends + low, FOLDS))
    if len({int(fold) for each in folds for fold in np.unique(each)}) < FOLDS:
        raise InputError(f"{genome.path}: too few hairpins to adapt to: one fold of the genome has none")
    return np.concatenate(findings), np.concatenate(folds)


def learn(shipped: dict[str, Any], known: np.ndarray, background: np.ndarray, seed: int) -> dict[str, Any]:
    """Last layers fitted to tell precursors from a background, beginning from the shipped ones; a plain tree."""
    module = nnx.merge(*_judgement(shipped))
    data = {"findings": np.concatenate([known, background])}
    data["positive"] = np.arange(len(data["findings"])) < len(known)
    recipe = Recipe(
        batch=256, epochs=4, learning_rate=3e-4, warmup=100, weight_decay=0.0, positive_share=0.3, epoch_size=DRAWS,
        seed=seed,
    )  # fmt: skip
    return fit(module, findings_cross_entropy, data, recipe, None, log=lambda line: None)


def share_above(judgement: dict[str, Any], known: np.ndarray, background: np.ndarray, megabases: float) -> float:
    """Mean over `RATES` of the share of precursors above so many hairpins of the background a megabase."""
    precursors, others = (logits_of(judgement, findings) for findings in (known, background))
    ranked = np.sort(others)[::-1]
    thresholds = [ranked[min(int(rate * megabases), len(ranked) - 1)] for rate in RATES]
    return float(np.mean([(precursors > threshold).mean() for threshold in thresholds]))


def logits_of(judgement: dict[str, Any], findings: np.ndarray) -> np.ndarray:
    """Mean logit (float32) of the networks for findings of theirs."""
    predict = runner(nnx.merge(*_judgement(judgement)), 4096)
    return np.asarray(predict({"findings": findings.astype(np.float32)}), dtype=np.float32).mean(axis=1)


def _findings(tree: dict[str, Any]) -> Predict:
    return runner(nnx.merge(*filled(lambda rngs: Findings(members=len(tree["members"]), rngs=rngs), tree)), 256)


def _judgement(tree: dict[str, Any]) -> tuple[Any, Any]:
    wide = len(tree["members"]["0"]["0"]["kernel"])
    return filled(lambda rngs: Judgement(members=len(tree["members"]), dense=wide, rngs=rngs), tree)


def _remembered(source: Path) -> np.ndarray:
    weights.verify(source)
    try:
        with np.load(source / PRECURSORS, allow_pickle=False) as saved:
            return np.asarray(saved["findings"])
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{source / PRECURSORS}: these weights cannot be adapted ({error})") from error


def _described(folder: Path) -> dict[str, Any]:
    """What is written about the weights of a folder; nothing where it holds none."""
    try:
        return weights.describe(folder)
    except (OSError, json.JSONDecodeError):
        return {}


def _inputs(genome: Genome, source: Path) -> dict[str, str]:
    return {"genome_digest": genome.digest, "source_digest": weights.digest(source)}
