"""Attacks on a trained logistic regression, run by a node on its own rows beside its data.

Whoever attacks a model needs rows: to know which were trained on is to hold them. So the
node plays the attacker, with everything that operator and recipient have (the model, the
opened sums) and, beyond them, its own rows with the truth about each:

- *membership*: the likelihood ratio of a row's margin under models that were and were not
  trained on it. ``shadows`` models are trained on random halves of this node's rows; the
  other nodes' rows enter as the quadratic that their sums fix around the joint model.
- *memorised rows*: training on the row raises the probability of its own label by a quarter.
- *attribute*: of a row all but one feature is known, with its label; the value that makes the
  label likeliest is guessed.
- *reconstruction*: every ratio of two entries of the opened gradients, and of their
  differences between rounds, is a row if few rows made it; is one of ours among them?

Test rows, of the same table and never trained on, are the control of each.

Privacy:
    Everything here is about this node's rows; what leaves is counts (``measure``), masked and
    opened only over all contributing nodes together.

Source:
    Carlini et al., "Membership Inference Attacks From First Principles", S&P 2022, algorithm 1
    (online attack, Gaussian, logit scale); Feldman and Zhang, NeurIPS 2020 (memorisation);
    Fredrikson et al., USENIX Security 2014, and Yeom et al., CSF 2018, section 5 (attribute
    inference, with test rows as control); Geiping et al., NeurIPS 2020, section 3 (the input
    of a linear layer is the ratio of the gradients of weight and bias); Rad and Maleki, JRSS-B
    82, 2020 (leave-one-out by one Newton step).
"""

import hashlib
import itertools
from dataclasses import dataclass

import numpy as np

from nodes.contract.parameters import MICRO
from nodes.contract.tasks.descent import Descent
from nodes.contract.tasks.linear import BINS, MEMORISED_MICRO, RATIO_EDGES, WEIGHT_MAX, attack_length
from nodes.tasks.linear_rows import Flags, Floats, Rows, probability, standardised

AUDITED_MAX = 2048
"""Most training rows, and most test rows, of this node that are attacked; the first of each."""

CANDIDATES = 8
"""Values that are tried for an unknown feature: its own if it has no more, the means of octiles otherwise."""

NEAR = 0.05
"""Largest distance, in joint standard deviations, of any feature of a row from one that counts as rebuilt."""

_NEWTON_STEPS = 12
_BISECTIONS = 40


@dataclass(frozen=True, slots=True, repr=False)
class _Audit:
    """Rows under attack, training rows first, with the surrogate of everybody else's. Its repr shows nothing.

    Attributes:
        design: shape ``(rows, 1 + features)``, standardised.
        positive: shape ``(rows,)``.
        members: how many were trained on.
        point: weights of the joint model.
        gradient, hessian: of the others' loss and of the penalty around ``point``.
        root: ``root·rootᵀ`` is the Hessian of the others' loss alone.
    """

    design: Floats
    positive: Flags
    members: int
    point: Floats
    gradient: Floats
    hessian: Floats
    root: Floats

    @property
    def share(self) -> float:
        """Share of the rows that were trained on."""
        return self.members / len(self.design)

    def margins(self, points: Floats) -> Floats:
        """Return the logit of the true class per row, for one model or a column per model."""
        signs = np.where(self.positive, 1.0, -1.0)
        logits: Floats = self.design @ points.T
        return logits * (signs if logits.ndim == 1 else signs[:, None])


def measure(data: Rows, descent: Descent, *, node: str) -> list[int]:
    """Attack the model at the end of ``descent`` and return the counts, see ``attack_length``.

    Args:
        data: this node's rows.
        descent: after its last training round.
        node: names the random halves, together with the seed of the order: the same at every run.

    Returns:
        ``attack_length`` counts; all zero at a node without training or without test rows.

    Privacy:
        Counts of this node alone, to be masked before they leave.
    """
    if not len(data.train) or not len(data.test):
        return [0] * attack_length(len(descent.means))
    audit = _audit(data, descent)
    ratios, gains = _ratios(audit, shadows=descent.parameters.shadows, seed=_seed(descent.parameters.seed, node))
    member = np.arange(len(audit.design)) < audit.members
    counts = [*_histogram(ratios[member]), *_histogram(ratios[~member])]
    counts.append(int(np.sum(gains[member] >= MEMORISED_MICRO / MICRO)))
    for flags in _inferred(audit, missing=_missing(data)).T:
        counts += [int(flags[member].sum()), int(flags[~member].sum())]
    rebuilt = _rebuilt(audit.design[:, 1:], descent)
    return [*counts, int(rebuilt[member].sum()), int(rebuilt[~member].sum())]


def candidates(descent: Descent) -> Floats:
    """Return what the opened sums of all rounds would be rows of, shape ``(candidates, features)``, standardised.

    The gradient of a single row is its residual times ``(1, row)``; so is the difference of the
    gradients of two rounds. The ratios are formed whether or not one row made them.
    """
    inverse = np.array(descent.inverse)
    ridge = np.full(len(inverse), descent.parameters.l2_micro / MICRO)
    ridge[0] = 0.0
    gradients = [
        np.linalg.solve(inverse, np.array(point) - np.array(average)) - ridge * np.array(point)
        for point, average in descent.averages
    ]
    gradients += [after - before for before, after in itertools.pairwise(gradients)]
    found = [gradient[1:] / gradient[0] for gradient in gradients if abs(gradient[0]) > np.finfo(float).eps]
    return np.array(found).reshape(len(found), len(inverse) - 1)


def _audit(data: Rows, descent: Descent) -> _Audit:
    means, scales, point = np.array(descent.means), np.array(descent.scales), np.array(descent.point)
    train, test = (standardised(part[:AUDITED_MAX], means, scales) for part in (data.train, data.test))
    positive = data.train_positive[:AUDITED_MAX]
    ridge = np.full(len(point), descent.rows * descent.parameters.l2_micro / MICRO)
    ridge[0] = 0.0
    chance = probability(train @ point)
    curvature = train.T @ (train * (chance * (1 - chance))[:, None])
    second_moments = 4 * (np.linalg.inv(np.array(descent.inverse)) - np.diag(ridge) / descent.rows)
    # The second moments of the others' rows are known; how sure the model is of them is taken to be as here.
    sureness = np.trace(curvature) / np.sum(train**2)
    values, vectors = np.linalg.eigh(sureness * (descent.rows * second_moments - train.T @ train))
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    return _Audit(
        design=np.concatenate([train, test]),
        positive=np.concatenate([positive, data.test_positive[:AUDITED_MAX]]),
        members=len(train),
        point=point,
        gradient=-train.T @ (chance - positive),
        hessian=root @ root.T + np.diag(ridge),
        root=root,
    )


def _ratios(audit: _Audit, *, shadows: int, seed: int) -> tuple[Floats, Floats]:
    """Return per row the log likelihood ratio of being trained on, and what training on it does to its own label."""
    inside = min(max(round(audit.share * shadows), 2), shadows - 2)
    rng = np.random.default_rng(seed)
    taken = rng.random((len(audit.design), shadows)).argsort(axis=1).argsort(axis=1) < inside
    # Other halves of the others' rows: their gradients spread as their Hessian says (information equality),
    # around a centre from which the joint model's own half is off by as much.
    spread_of = np.sqrt(1 - audit.share) * audit.root
    centre = spread_of @ rng.standard_normal(len(audit.point))
    others = centre + rng.standard_normal((shadows, len(audit.point))) @ spread_of.T
    points = np.array([_trained(audit, taken[:, place], others[place]) for place in range(shadows)])
    chance = probability(audit.design @ audit.point)
    weighted = audit.design * (audit.share * chance * (1 - chance))[:, None]
    inverse = np.linalg.pinv(audit.design.T @ weighted + audit.hessian)
    leverage = np.maximum(np.sum((audit.design @ inverse) * audit.design, axis=1), 0.0)
    margins = audit.margins(points)
    without = np.where(taken, margins - leverage[:, None] * probability(-margins), margins)
    out, spread = without.mean(axis=1), without.var(axis=1, ddof=1)
    within = _with(out, leverage)
    # The variance of a few models is half noise; the leverage says how it differs between rows.
    typical = spread.mean() * leverage / max(float(leverage.mean()), np.finfo(float).tiny)
    variance = np.maximum((spread + typical) / 2, 1e-12)
    target = audit.margins(audit.point)
    ratios: Floats = ((target - out) ** 2 - (target - within) ** 2) / (2 * variance)
    return ratios, probability(within) - probability(out)


def _with(out: Floats, leverage: Floats) -> Floats:
    """Return the margins after training on the row, too: the root of ``m = out + leverage·(1 - σ(m))``."""
    low, high = out, out + leverage
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        above = middle > out + leverage * probability(-middle)
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return (low + high) / 2


def _trained(audit: _Audit, taken: Flags, others: Floats) -> Floats:
    """Return the weights of a model of the taken rows and everybody else's, by Newton's method.

    Args:
        audit: rows and surrogate.
        taken: the rows to train on.
        others: by how much the gradient of the others' rows differs.
    """
    design, positive = audit.design[taken], audit.positive[taken]
    gradient = audit.gradient + others

    def loss(weights: Floats) -> float:
        logits, moved = design @ weights, weights - audit.point
        own = np.logaddexp(0.0, np.where(positive, -logits, logits)).sum()
        return float(own + gradient @ moved + moved @ audit.hessian @ moved / 2)

    weights = audit.point
    for _ in range(_NEWTON_STEPS):
        chance = probability(design @ weights)
        slope = design.T @ (chance - positive) + gradient + audit.hessian @ (weights - audit.point)
        curvature = design.T @ (design * (chance * (1 - chance))[:, None]) + audit.hessian
        step = np.linalg.lstsq(curvature + 1e-9 * np.eye(len(weights)), slope, rcond=None)[0]
        length, before = 1.0, loss(weights)
        while length > 1 / 64 and loss(weights - length * step) > before:
            length /= 2
        weights = np.clip(weights - length * step, -WEIGHT_MAX, WEIGHT_MAX)
        if np.max(np.abs(length * step)) < 1e-6:
            break
    return weights


def _missing(data: Rows) -> Flags:
    missing: Flags = np.isnan(np.concatenate([data.train[:AUDITED_MAX], data.test[:AUDITED_MAX]]))
    return missing


def _inferred(audit: _Audit, *, missing: Flags) -> Flags:
    """Return per row and feature whether its value was inferred from the others, the label and the model."""
    hits = np.zeros(missing.shape, dtype=bool)
    signs = np.where(audit.positive, 1.0, -1.0)
    logits = audit.design @ audit.point
    for place in range(missing.shape[1]):
        column = audit.design[:, place + 1]
        known = column[: audit.members][~missing[: audit.members, place]]
        if not len(known):
            continue
        values = _values(known)
        true = np.abs(column[:, None] - values).argmin(axis=1)
        prior = np.bincount(true[: audit.members][~missing[: audit.members, place]], minlength=len(values))
        changed = logits[:, None] + audit.point[place + 1] * (values - column[:, None])
        score = np.log(np.maximum(prior, 0.5)) - np.logaddexp(0.0, -signs[:, None] * changed)
        hits[:, place] = (score.argmax(axis=1) == true) & ~missing[:, place]
    return hits


def _values(known: Floats) -> Floats:
    distinct = np.unique(known)
    if len(distinct) <= CANDIDATES:
        return distinct
    return np.unique([part.mean() for part in np.array_split(np.sort(known), CANDIDATES)])


def _rebuilt(rows: Floats, descent: Descent) -> Flags:
    """Return which rows are near a candidate in every feature.

    With few features some row is near any point, so the distance shrinks until, over all joint
    rows and candidates, less than one in a hundred trainings has a row there by chance.
    """
    points = candidates(descent)
    chance = 0.01 / max(descent.rows * len(points), 1)
    near = min(NEAR, chance ** (1 / rows.shape[1]) / 0.8)
    found: Flags = np.zeros(len(rows), dtype=bool)
    for point in points:
        found |= np.abs(rows - point).max(axis=1) <= near
    return found


def _histogram(ratios: Floats) -> list[int]:
    edges = np.array([*(-edge for edge in reversed(RATIO_EDGES)), 0.0, *RATIO_EDGES])
    return [int(count) for count in np.bincount(np.searchsorted(edges, ratios, side="right"), minlength=BINS)]


def _seed(seed: int, node: str) -> int:
    return int.from_bytes(hashlib.sha256(f"shufang/v1/shadows\0{seed}\0{node}".encode()).digest()[:8], "big")
