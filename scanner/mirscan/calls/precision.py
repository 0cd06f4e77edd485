"""What a call of a given score is worth: the estimated share of such calls that are known hairpins.

A model's score ranks hairpins; how many of those it ranks high are real depends on how many there are to be found.
Here a line is fitted on scores of contigs the model has not seen:

    log-odds of being known = intercept + slope * logit(score) + log(known hairpins per Mb)

The last term carries it to other genomes: if hairpins and background score alike there, the odds of a score change
with the number of hairpins in a megabase and with nothing else (Saerens, Latinne & Decaestecker 2002, eq. 4). A line
is enough (Platt 1999): a bend did no better on contigs left out (benchmarks/discovery/calibrate.py).
What is estimated are known hairpins, those of miRBase: a lower bound, since nobody knows them all. It never ranks.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mirscan.checkpoints.weights import CALIBRATION
from mirscan.errors import InputError, UsageError
from mirscan.files.atomic import AtomicFile
from mirscan.types import Call

FITTED_PER_MB = 1000
"""Best calls a megabase on which the line is fitted: hairpins far below, which the model missed, would flatten it."""
HIGHEST = 10
"""Calls above the highest logit that is told apart: where fewer were seen, the line is not drawn further."""
LOWEST = -30.0
DRAWS = 200
INTERVAL = (2.5, 97.5)
FORMAT = 1
log = logging.getLogger("mirscan")


class Clade(NamedTuple):
    """Known hairpins per megabase of genome, both strands together, and where the number is from."""

    prevalence: float
    source: str


CLADES = {
    "animal": Clade(1.0, "median of the 11 species named below"),
    "nematode": Clade(2.0, "C. elegans 253 in 100 Mb, C. briggsae 175 in 108 Mb, B. malayi 157 in 88 Mb"),
    "insect": Clade(1.0, "fly 258 in 144 Mb, bee 254 in 250 Mb, A. gambiae 130 in 273 Mb, silkworm 487 in 460 Mb"),
    "vertebrate": Clade(0.5, "human 1,917 in 3,099 Mb, mouse 1,234 in 2,728 Mb, chicken 882 in 1,065 Mb, zebrafish 355 "
                             "in 1,373 Mb"),
    "human": Clade(0.62, "1,917 in 3,099 Mb; by MirGeneDB 0.18 (558)"),
    "virus": Clade(90.0, "herpesviruses with known hairpins: EBV 25 in 0.17 Mb, HCMV 15 in 0.24, KSHV 13 in 0.14"),
}  # fmt: skip
"""By name of ``--clade``: entries of miRBase 22 by the length of the assembly, the mean of some species, rounded."""
DEFAULT_CLADE = "animal"


def known_per_megabase(clade: str | None = None, prevalence: float | None = None) -> float:
    """Prevalence of a clade, or the one given, after a check of what a user may ask for.

    Raises
    ------
    UsageError
        If the clade is not in `CLADES`, the prevalence is not above 0, or both are given.
    """
    if prevalence is None:
        if (clade or DEFAULT_CLADE) not in CLADES:
            raise UsageError(f"--clade {clade}: choose {', '.join(CLADES)}, or give --prevalence")
        return CLADES[clade or DEFAULT_CLADE].prevalence
    if clade is not None:
        raise UsageError(f"--clade {clade} and --prevalence {prevalence:g}: give one of them")
    if not 0 < prevalence < math.inf:
        raise UsageError(f"--prevalence {prevalence:g}: known hairpins per megabase must be above 0")
    return prevalence


@dataclass(frozen=True)
class Sample:
    """Non-redundant calls of one genome, or of some of its contigs, scored by a model that has not seen them.

    Attributes
    ----------
    logits : (N,) float
        log(score / (1 - score)).
    positive : (N,) bool
        The call is the first to find a known hairpin (`mirscan.evaluation.matching.match`).
    blocks : (N,) int
        Stretch of a megabase in which a call lies; these are drawn together.
    megabases : float
        Scanned, unambiguous.
    prevalence : float
        Known hairpins per megabase of the genome, found or not.
    """

    logits: np.ndarray
    positive: np.ndarray
    blocks: np.ndarray
    megabases: float
    prevalence: float

    def best(self) -> Sample:
        """The calls a line is fitted on: `FITTED_PER_MB`."""
        rows = np.argsort(-self.logits, kind="stable")[: math.ceil(FITTED_PER_MB * self.megabases)]
        return replace(self, logits=self.logits[rows], positive=self.positive[rows], blocks=self.blocks[rows])


@dataclass(frozen=True)
class Calibration:
    """A fitted line; made by `fit_calibration`, kept by `save_calibration`.

    Attributes
    ----------
    line : tuple of (intercept, slope)
        For one known hairpin per megabase.
    draws : (D, 2) float64
        Lines of drawn genomes and blocks.
    highest : float
        Logit above which all calls are worth the same.
    weights : str
        Digest of the weights it is for.
    about : dict
        What it was fitted on, for the reader.
    digest : str
        Sha256 of the file it was read from.
    """

    line: tuple[float, float]
    draws: np.ndarray
    highest: float
    weights: str = ""
    about: dict[str, Any] = field(default_factory=dict)
    digest: str = ""

    def precision(self, score: np.ndarray | float, prevalence: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Estimated share of calls of these scores that are known hairpins, and the ends of its 95 % interval.

        The interval speaks of the genomes it was fitted on, drawn again with their blocks. It does not hold the doubt
        about ``prevalence``, nor about a clade in which hairpins look otherwise.

        Parameters
        ----------
        score : float or (N,) float
            0 to 1.
        prevalence : float
            Known hairpins per megabase, both strands together.

        Returns
        -------
        estimate, low, high : (N,) float64
            Each rises with the score and with the prevalence, or stays.

        Raises
        ------
        ValueError
            If the prevalence is not above 0, or a score is not from 0 to 1.
        """
        scores = np.atleast_1d(np.asarray(score, dtype=np.float64))
        if not 0 < prevalence < math.inf:
            raise ValueError(f"prevalence {prevalence}: must be above 0")
        if not ((scores >= 0) & (scores <= 1)).all():
            raise ValueError(f"scores from {scores.min()} to {scores.max()}: must be from 0 to 1")
        levels, place = np.unique(scores, return_inverse=True)
        with np.errstate(divide="ignore"):
            logits = np.clip(np.log(levels) - np.log1p(-levels), LOWEST, self.highest)
        estimate = self.line[0] + self.line[1] * logits
        ends = np.empty((2, len(levels)))
        for first in range(0, len(levels), 4096):
            piece = slice(first, first + 4096)
            ends[:, piece] = np.percentile(self.draws[:, :1] + self.draws[:, 1:] * logits[piece], INTERVAL, axis=0)
        low, high = np.minimum(ends[0], estimate), np.maximum(ends[1], estimate)
        estimate, low, high = (_sigmoid(odds + math.log(prevalence))[place] for odds in (estimate, low, high))
        return estimate, low, high

    def least_score(self, precision: float, prevalence: float) -> float:
        """The lowest score whose estimated precision is at least ``precision``; infinite where none is."""
        wanted = math.log(precision / (1 - precision)) - math.log(prevalence) - self.line[0]
        slope = self.line[1]
        logit = wanted / slope if slope > 0 else (-math.inf if wanted <= 0 else math.inf)
        return float(_sigmoid(np.array(logit))) if logit <= self.highest else math.inf

    def annotate(self, calls: Sequence[Call], prevalence: float) -> list[Call]:
        """The calls, each with its estimated precision."""
        if not calls:
            return []
        columns = self.precision(np.array([call.score for call in calls]), prevalence)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return [replace(call, precision=row) for call, row in zip(calls, rows, strict=True)]


def fit_calibration(samples: Sequence[Sample], draws: int = DRAWS, seed: int = 0) -> Calibration:
    """Fit the line on the best calls of some genomes, and once more on every set of drawn genomes and blocks.

    Genomes are drawn first, with replacement, then as many blocks of each as it has: genomes differ from one another
    more than chance within one of them would have it. The prevalence of a genome stays what it is.

    Raises
    ------
    ValueError
        If no call is positive, or a genome has calls but no known hairpin.
    """
    if not any(sample.positive.any() for sample in samples):
        raise ValueError("no call is a known hairpin: there is nothing to fit")
    for sample in samples:
        if len(sample.logits) and not sample.prevalence > 0:
            raise ValueError(f"prevalence {sample.prevalence}: calls of a genome without known hairpins tell nothing")
    samples = [sample.best() for sample in samples]
    logits = np.maximum(np.concatenate([sample.logits for sample in samples], dtype=np.float64), LOWEST)
    positive = np.concatenate([sample.positive for sample in samples]).astype(np.float64)
    offset = np.concatenate([np.full(len(s.logits), math.log(s.prevalence or 1.0)) for s in samples])
    genome = np.repeat(np.arange(len(samples)), [len(sample.logits) for sample in samples])
    blocks = np.concatenate([sample.blocks for sample in samples])
    pairs, block = np.unique(np.stack([genome, blocks], axis=1), axis=0, return_inverse=True)
    block = block.reshape(-1)
    line = _fit_line(logits, positive, offset, np.ones(len(logits)))
    generator = np.random.default_rng(seed)
    lines = []
    for _ in range(draws):
        times = np.zeros(len(pairs))
        for drawn in generator.integers(len(samples), size=len(samples)):
            mine = np.flatnonzero(pairs[:, 0] == drawn)
            if len(mine):
                np.add.at(times, generator.choice(mine, len(mine)), 1.0)
        weight = times[block]
        lines.append(_fit_line(logits, positive, offset, weight) if weight.any() else line)
    highest = np.sort(logits)[-min(HIGHEST, len(logits))]
    return Calibration(line, np.array(lines).reshape(-1, 2), float(highest))


def save_calibration(path: Path, calibration: Calibration) -> None:
    """Write ``calibration.json`` (beside the weights), whole or not at all."""
    document = {
        "format": FORMAT,
        "weights": calibration.weights,
        "about": calibration.about,
        "intercept": calibration.line[0],
        "slope": calibration.line[1],
        "highest_logit": calibration.highest,
        "draws": [[round(value, 5) for value in row] for row in calibration.draws.tolist()],
    }
    lines = (f" {json.dumps(name)}: {json.dumps(value)}" for name, value in document.items())
    with AtomicFile(path) as file:
        file.write(("{\n" + ",\n".join(lines) + "\n}\n").encode())


def read_calibration(path: Path) -> Calibration:
    """Read what `save_calibration` wrote.

    Raises
    ------
    InputError
        If the file is no calibration of this format, or a number in it cannot be.
    """
    text = path.read_bytes()
    try:
        document = json.loads(text)
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']}, this mirscan reads {FORMAT}")
        line = float(document["intercept"]), float(document["slope"])
        draws = np.array(document["draws"], dtype=np.float64).reshape(-1, 2)
        highest, weights, about = float(document["highest_logit"]), str(document["weights"]), dict(document["about"])
        if not (len(draws) and np.isfinite([*line, highest]).all() and np.isfinite(draws).all()):
            raise ValueError("it holds no finite line")
        if min(line[1], draws[:, 1].min()) < 0:
            raise ValueError("a slope is negative")
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: no calibration ({error}); install the checkpoint again or remove the file") from None
    return Calibration(line, draws, highest, weights, about, hashlib.sha256(text).hexdigest())


def find_calibration(folder: Path, weights: str) -> Calibration | None:
    """The calibration in a folder of weights; None where there is none, or one that is for other weights.

    Parameters
    ----------
    folder : Path
        Of the weights.
    weights : str
        Digest of the weights that gave the scores.

    Raises
    ------
    InputError
        From `read_calibration`.
    """
    path = folder / CALIBRATION
    if not path.is_file():
        return None
    calibration = read_calibration(path)
    if calibration.weights != weights:
        log.warning("%s is for other weights than those of the scores: calls get no precision", path)
        return None
    return calibration


def _fit_line(logits: np.ndarray, positive: np.ndarray, offset: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Intercept and slope, the latter not below 0."""
    rows = weight > 0
    logits, positive, offset, weight = logits[rows], positive[rows], offset[rows], weight[rows]
    centre, spread = float(np.average(logits, weights=weight)), float(logits.std()) or 1.0
    scaled = (logits - centre) / spread
    for columns in (np.stack([np.ones(len(scaled)), scaled], axis=1), np.ones((len(scaled), 1))):
        line = fit_logistic(columns, positive, offset, weight)
        if len(line) == 1 or line[1] >= 0:
            break
    slope = float(line[1]) / spread if len(line) == 2 else 0.0
    return float(line[0]) - slope * centre, slope


def fit_logistic(columns: np.ndarray, positive: np.ndarray, offset: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Coefficients (float64) of a logistic regression with an offset, by Newton's method; the first column is 1.

    Jeffreys' prior (Firth 1993) keeps them finite where few calls, or none, are positive.
    """
    share = (weight @ positive + 0.5) / (weight.sum() + 1)
    line = np.zeros(columns.shape[1])
    line[0] = math.log(share / (1 - share)) - np.average(offset, weights=weight)
    for _ in range(100):
        probability = _sigmoid(columns @ line + offset)
        each = weight * probability * (1 - probability)
        information = (columns * each[:, None]).T @ columns
        inverse = np.linalg.pinv(information)
        leverage = each * np.einsum("ij,jk,ik->i", columns, inverse, columns)
        step = inverse @ (columns.T @ (weight * (positive - probability) + leverage * (0.5 - probability)))
        step *= min(1.0, 1.0 / max(np.abs(step).max(), 1e-12))  # Newton may leap where probabilities are near 0 or 1
        line += step
        if np.abs(step).max() < 1e-8:
            break
    return line


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0.0, -values))
