"""Operator half of ``linear.secagg``: train, score and package a horizontal logistic regression.

The pooled optimum is reached without pooling: nodes standardise with jointly computed means
and scales, precondition with the joint second moments, and in each round return rows and
rows·weights after their local steps; the average is the next point (federated averaging),
extrapolated with Nesterov's momentum. With one local step the fixed point is the pooled
optimum; with more it drifts towards an average of the nodes' own optima. This side chooses
nothing on the way: ``nodes.contract.tasks.descent`` says what each sum leads to, here and at
the nodes.

Privacy: this side sees masked vectors and opened sums (``factory.federation.secagg``):
rows and positives, per feature count, mean and second moments, per round the average of the
weights, 64-bin score histograms and what attacks by the nodes achieve, each over all
contributing nodes. Of a single node it sees two rounded metrics on its test rows, unless that
node withholds them.

Source:
    McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized
    Data", AISTATS 2017 (federated averaging).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from factory.errors import FactoryError
from factory.federation.secagg import NodeReplyError, OpenedSum, SecureSums
from factory.federation.session import Reply, Session
from factory.review import figures
from nodes.contract.messages import ResourceUse
from nodes.contract.tasks import linear as contract
from nodes.contract.tasks.descent import UNIT, CannotTrainError, Descent
from nodes.contract.tasks.linear import BINS, LinearParameters


class NothingToLearnError(FactoryError):
    """The joint training rows hold one class only, or a feature has no value anywhere."""

    code = "federation.nothing_to_learn"


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training run is.

    Attributes:
        stage: ``keys``, ``means``, ``gram``, ``train``, ``score``, ``compare`` or ``accept``.
        done, total: rounds of the stage.
        contributors: nodes in the last opened sum.
        moved_micro: how far the weights moved in the last round, in millionths.
    """

    stage: str
    done: int
    total: int
    contributors: int
    moved_micro: int = 0


@dataclass(frozen=True, slots=True)
class Round:
    """One training round: which sum, who contributed, how far the weights moved."""

    sum_number: int
    contributors: tuple[str, ...]
    moved_micro: int


@dataclass(frozen=True, slots=True)
class LinearModel:
    """A trained model with everything that may be said about it.

    Attributes:
        parameters: as ordered.
        means, scales, weights: per feature; the model is ``σ(intercept + Σ weight·(x-mean)/scale)``.
        intercept: its constant.
        metrics: ``_micro`` are millionths, see ``measure`` and ``measure_attacks``.
        baselines: per node its own model beside the federated one on its own test rows, in
            hundredths, or ``{"withheld": True}``; nodes that dropped are missing.
        rounds: the training rounds.
        parties: nodes that started.
        dropped: nodes lost on the way, with the stage.
        document: bytes of ``model.json``, the file the nodes vouched for.
        vouched: nodes that vouched for it.
    """

    parameters: LinearParameters
    means: tuple[float, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float
    metrics: Mapping[str, int | str]
    baselines: Mapping[str, Mapping[str, Any]]
    rounds: tuple[Round, ...]
    parties: tuple[str, ...]
    dropped: Mapping[str, str]
    document: bytes
    vouched: tuple[str, ...]

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        return self.parameters.features

    @property
    def contributors_min(self) -> int:
        """Fewest nodes in any training round."""
        return min(len(item.contributors) for item in self.rounds)


def train(
    session: Session,
    resources: Mapping[str, Sequence[ResourceUse]],
    parameters: LinearParameters,
    *,
    progress: Callable[[Progress], None] = lambda _: None,
) -> LinearModel:
    """Open the session at every node of ``resources``, train, score and have the model vouched for.

    The session stays open; ``session.close()`` brings the node-run statements.

    Args:
        session: not yet open, under a grant for ``linear.secagg``.
        resources: one table per node, with the columns ``parameters.columns``.
        parameters: of the model; the same input and seed give the same model.
        progress: called after every stage and round.

    Raises:
        NodeRefusedError: a node refused the order or a step.
        TooFewNodesError: fewer nodes than the threshold are left.
        NothingToLearnError: one class only, or a feature without values.
        NodeReplyError: a reply that is not what the protocol asks for.
    """
    answers = session.open(contract.TASK, parameters.model_dump(mode="json"), resources)
    sums = SecureSums(session)
    sums.setup(answers)
    progress(Progress("keys", 1, 1, len(sums.active)))
    return _Run(sums, Descent(parameters), progress).model(tuple(sorted(resources)))


@dataclass(slots=True)
class _Run:
    sums: SecureSums
    descent: Descent
    progress: Callable[[Progress], None]
    rounds: list[Round] = field(default_factory=list)

    def model(self, parties: tuple[str, ...]) -> LinearModel:
        descent = self.descent
        while descent.expected != "linear.score":
            self._advance()
        scored = self._sum()
        self.progress(Progress("score", 1, 1, len(scored.contributors)))
        document = descent.model_document()
        baselines = {node: dict(reply.body) for node, reply in self._ask_each("linear.compare").items()}
        self.progress(Progress("compare", 1, 1, len(baselines)))
        vouched = self._ask_each("linear.accept", (document,))
        self.progress(Progress("accept", 1, 1, len(vouched)))
        return LinearModel(
            parameters=descent.parameters,
            means=tuple(descent.means),
            scales=tuple(descent.scales),
            weights=tuple(descent.point[1:]),
            intercept=descent.point[0],
            metrics={
                "train_rows": descent.rows,
                **measure(scored.values, cell_min=self._cell_min),
                **measure_attacks(scored.values, descent.parameters.features, cell_min=self._cell_min),
            },
            baselines=baselines,
            rounds=tuple(self.rounds),
            parties=parties,
            dropped=dict(self.sums.dropped),
            document=document,
            vouched=tuple(sorted(vouched)),
        )

    @property
    def _cell_min(self) -> int:
        return self.sums.session.grant.thresholds.cell_min

    def _advance(self) -> None:
        kind = self.descent.expected
        opened = self._sum()
        try:
            self.descent.take(opened.values)
        except CannotTrainError as error:
            raise NothingToLearnError(str(error)) from error
        contributors = len(opened.contributors)
        if kind == "linear.train":
            moved = self.descent.moved_micro[-1]
            self.rounds.append(Round(opened.number, opened.contributors, moved))
            self.progress(Progress("train", len(self.rounds), self.descent.parameters.rounds, contributors, moved))
        else:
            self.progress(Progress(kind.removeprefix("linear."), 1, 1, contributors))

    def _sum(self) -> OpenedSum:
        return self.sums.sum(self.descent.expected, self.descent.question_sha256(), length=self.descent.length)

    def _ask_each(self, kind: str, attachments: tuple[bytes, ...] = ()) -> dict[str, Reply]:
        nodes = self.sums.active
        return self.sums.present(
            self.sums.session.step(kind, {node: {} for node in nodes}, dict.fromkeys(nodes, attachments)), kind
        )


def measure(values: Sequence[int], *, cell_min: int) -> dict[str, int]:
    """Turn the opened score histograms into metrics.

    Args:
        values: see ``contract.SCORE_LENGTH``.
        cell_min: fewest rows, and of each class, behind a metric; others are left out.

    Returns:
        Millionths, for ``train`` and ``test``: ``auc``
        (within-bin ties count half) with ``auc_low`` and ``auc_high``, between which the
        exact figure lies; ``accuracy``; ``log_loss``. ``membership_auc_micro`` and
        ``membership_advantage_micro``: how well the confidence in the true class tells
        training rows from test rows (500 000 and 0 mean not at all).

    Privacy:
        All of it is about the contributors together.

    Source:
        Yeom et al., "Privacy Risk in Machine Learning", CSF 2018 (membership advantage).
    """
    cells = np.array(values[: 4 * BINS], dtype=np.int64).reshape(2, 2, BINS)
    if bool((cells < 0).any()):
        raise NodeReplyError("expected histograms without negative counts")
    metrics: dict[str, int] = {}
    for place, name in enumerate(("train", "test")):
        negative, positive = (int(cells[place, side].sum()) for side in (0, 1))
        if negative + positive < cell_min:
            continue
        right = int(cells[place, 0, : BINS // 2].sum() + cells[place, 1, BINS // 2 :].sum())
        metrics[f"accuracy_{name}_micro"] = _micro(right, negative + positive)
        metrics[f"log_loss_{name}_micro"] = _micro(values[4 * BINS + place], (negative + positive) * UNIT)
        if min(negative, positive) >= cell_min:
            metrics |= {
                f"auc_{key}{name}_micro": value for key, value in _area(cells[place, 0], cells[place, 1]).items()
            }
    confidence = cells[:, 1] + cells[:, 0, ::-1]
    if min(int(confidence[0].sum()), int(confidence[1].sum())) >= cell_min:
        member, other = (np.cumsum(side[::-1]) / side.sum() for side in (confidence[0], confidence[1]))
        metrics |= figures.area(*(side.tolist() for side in confidence)).metrics("membership_auc")
        metrics["membership_advantage_micro"] = max(round(float(np.max(member - other)) * 1_000_000), 0)
    return metrics


def measure_attacks(values: Sequence[int], features: Sequence[str], *, cell_min: int) -> dict[str, int | str]:
    """Turn the opened counts of the attacks into figures with intervals.

    Args:
        values: see ``contract.score_length``.
        features: names of the model's features.
        cell_min: fewest audited rows on either side; with fewer, nothing is said.

    Returns:
        ``lira_auc`` and ``lira_tpr`` (at one false positive in a hundred), ``attribute_advantage``, each
        ``_micro`` with ``_low_micro`` and ``_high_micro``; ``attribute_feature``, which it was; and the
        numbers of ``memorised_rows`` and ``reconstructed_rows`` (those beyond the test rows' number count).

    Privacy:
        All of it is about the contributors together.
    """
    counts = list(values[contract.SCORE_LENGTH :])
    if len(counts) != contract.attack_length(len(features)) or min(counts) < 0:
        raise NodeReplyError(f"expected {contract.attack_length(len(features))} counts of attacks, none negative")
    members, others = counts[:BINS], counts[BINS : 2 * BINS]
    memorised, *rest, rebuilt, coincidences = counts[2 * BINS :]
    if min(sum(members), sum(others)) < max(cell_min, 1):
        return {}
    hits = list(zip(rest[::2], rest[1::2], strict=True))
    place, inferred = figures.largest_difference(hits, members=sum(members), others=sum(others))
    # Told apart is told apart, whichever side looks likelier.
    apart = max(figures.area(members, others), figures.area(members[::-1], others[::-1]), key=lambda found: found.micro)
    return {
        **apart.metrics("lira_auc"),
        **figures.hits_at_few_mistakes(members, others).metrics("lira_tpr"),
        **inferred.metrics("attribute_advantage"),
        "attribute_feature": features[place],
        "memorised_rows": memorised,
        "reconstructed_rows": max(rebuilt - coincidences, 0),
    }


def _area(negative: NDArray[np.int64], positive: NDArray[np.int64]) -> dict[str, int]:
    below = np.concatenate([[0], np.cumsum(negative)[:-1]])
    sure, tied = int(positive @ below), int(positive @ negative)
    pairs = int(negative.sum()) * int(positive.sum())
    return {"": _micro(2 * sure + tied, 2 * pairs), "low_": _micro(sure, pairs), "high_": _micro(sure + tied, pairs)}


def _micro(numerator: int, denominator: int) -> int:
    return round(numerator * 1_000_000 / denominator)


def close(session: Session) -> dict[str, Reply]:
    """End the session and return the answers of the nodes that are still in it.

    A node that dropped out is missing; its statement can be asked for later.
    """
    return {node: answer for node, answer in session.close().items() if isinstance(answer, Reply)}
