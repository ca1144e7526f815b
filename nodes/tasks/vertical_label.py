"""Label side of ``linear.vertical``: its labels and columns meet the others' scores under encryption only.

``nodes.contract.tasks.vertical_linear`` draws a round.

Privacy: this side sees, of the others, ciphertexts under the first holder's key; products under its
own key whose integers are uniform (``nodes.privacy.vertical_ckks``); per round and own feature one sum
over all training rows; how far each block moved; and, for the metrics, how many test rows of
each class fall into each bin of the joint score. No score, label or feature of a single row of
anybody else.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nodes.contract.messages import Condition, RefusalCode
from nodes.contract.tasks import vertical_linear as contract
from nodes.contract.tasks.vertical_linear import SCORE_BINS, SCORE_WIDTHS, SCORED_ROWS_MAX, VerticalLinearParameters
from nodes.privacy import psi
from nodes.privacy import vertical_ckks as ckks
from nodes.privacy.keys import keyed_rows
from nodes.privacy.vertical_ckks import Calculator, Columns, Holder
from nodes.tasks import linear_rows, model_parts, vertical_design, vertical_state
from nodes.tasks.linear_rows import holds
from nodes.tasks.party import Channel, Finished, Party
from nodes.tasks.spec import TaskContext, TaskRefusedError
from nodes.tasks.vertical_state import GO_ON, SMALL, STOP, Saved, write_number

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, repr=False)
class _Labels:
    """Labels of the joint rows. Its repr shows nothing.

    Attributes:
        train, test: logistic: 0 or 1. Linear: standardised target.
        weights: of the training rows in the loss.
        mean, scale: of a linear target.
    """

    train: Floats
    test: Floats
    weights: Floats
    mean: float = 0.0
    scale: float = 1.0


def run(party: Party, context: TaskContext) -> Finished:
    """Be the label side until the model is trained; see the module text.

    Raises:
        TaskRefusedError: too few rows, or a peer that does not keep to the protocol.
    """
    parameters: VerticalLinearParameters = context.parameters  # type: ignore[assignment]  # checked when the order was taken
    (view,) = context.tables.values()
    frame = view.frame()
    thresholds = context.grant.thresholds
    saved = _saved(party, frame, parameters, thresholds.rows_min)
    test = _split(frame, saved.rows, parameters, party)
    vertical_state.require_rows(
        parameters, int((~test).sum()), int(test.sum()), least=thresholds.rows_min, cell_min=thresholds.cell_min
    )
    labels = _labels(frame, saved.rows, test, parameters, cell_min=thresholds.cell_min)
    names = parameters.features[party.node]
    values = vertical_design.features_of(frame, names, parameters.zero_is_missing)[saved.rows]
    vertical_design.require_groups(values[~test], names, thresholds.cell_min)
    design = vertical_design.design(values, test, parameters, has_intercept=True)
    block = vertical_design.block(design, parameters)
    if saved.rounds:
        block.weights, block.before, block.rounds = saved.weights, saved.before, saved.rounds
    training = _Training(party, parameters, labels, block)
    moved = training.train(saved)
    body: dict[str, Any] = {"rounds": block.rounds, "moved_micro": list(moved)}
    if parameters.has_metrics and len(design.test):
        body["metrics"] = training.metrics(thresholds.cell_min)
    document = contract.part_document(
        parameters,
        party.node,
        means=design.means.tolist(),
        scales=design.scales.tolist(),
        weights=block.weights[1:].tolist(),
        intercept=float(block.weights[0]),
        target=(labels.mean, labels.scale),
    )
    digest = model_parts.keep(context.parts_dir, document)
    return Finished(
        {
            "contributors": len(parameters.features),
            "outputs": [{"name": f"part.{party.node}.json", "sha256": digest}],
            "parameter_set": parameters.parameter_set,
            "training_rounds": block.rounds,
        },
        {**body, "part_sha256": digest},
    )


@dataclass(slots=True, repr=False)
class _Training:
    """The rounds. Its repr shows nothing."""

    party: Party
    parameters: VerticalLinearParameters
    labels: _Labels
    block: vertical_design.Block
    calculator: Calculator | None = None

    def train(self, saved: Saved) -> tuple[int, ...]:
        """Make the rounds that are left and return the estimate of the decrease of each, in millionths."""
        parameters, party = self.parameters, self.party
        rows = len(self.labels.train)
        fixed = vertical_state.fixed_for(parameters, rows)
        holder = Holder(fixed, answers=parameters.answers)
        holders = [party.channel(name) for name in parameters.holders]
        for channel in holders:
            channel.send("keys", holder.public_bytes)
        first, last = holders[0], holders[-1]
        target = self.labels.weights * (self.labels.train - (0.5 if parameters.model == "logistic" else 0.0))
        last.send("labels", holder.encrypt(-target, spent=parameters.levels))
        if parameters.balanced:
            last.send("weights", holder.encrypt(self.labels.weights, spent=parameters.polynomial.levels))
        calculator = Calculator(fixed, first.receive("keys", size_max=ckks.KEYS_BYTES_MAX))
        mine = Columns(self.block.design.train)
        moved = list(saved.moved_micro)
        self.calculator = calculator
        left = range(0) if saved.is_done else range(saved.rounds + 1, parameters.rounds + 1)
        for number in left:
            score = vertical_design.scores(self.block.design.train, self.block.point, parameters)
            first.send("scores", holder.encrypt(score))
            blocks = calculator.read(
                last.receive("first-scores", size_max=ckks.wire_bytes_max(rows, fixed.levels)), rows
            )
            calculator.add(blocks, score)
            residuals = calculator.polynomial(parameters.polynomial, blocks)
            if parameters.balanced:
                residuals = calculator.times(residuals, self.labels.weights, spent=parameters.polynomial.levels)
            calculator.add(residuals, -target, spent=parameters.levels)
            products, masks = calculator.products(residuals, mine)
            first.send("products", products)
            for channel, name in zip(holders, parameters.holders, strict=True):
                count = len(parameters.features[name])
                channel.send(
                    "opened", holder.open(channel.receive("products", size_max=ckks.products_bytes(count)), count)
                )
            opened = first.receive("opened", size_max=ckks.opened_bytes(len(masks)))
            decrease = self.block.step(calculator.unmask(opened, masks))
            decrease += sum(vertical_state.read_number(channel.receive("moved", size_max=SMALL)) for channel in holders)
            moved.append(contract.micro(decrease))
            is_last = number == parameters.rounds or moved[-1] <= parameters.tolerance_micro
            for channel in holders:
                channel.send("turn", STOP if is_last else GO_ON)
            state = Saved(saved.rows, number, self.block.weights, self.block.before, tuple(moved), is_last)
            party.checkpoint(number + 1, state.to_bytes())
            party.progress(stage="train", round=number, rounds=parameters.rounds, decrease_micro=moved[-1])
            if is_last:
                break
        return tuple(moved)

    def metrics(self, cell_min: int) -> dict[str, int]:
        """Return the metrics of the joint score on training and test rows; nothing if they would rest on too few.

        Privacy:
            This side learns, of up to ``SCORED_ROWS_MAX`` training and as many test rows, how many of each class
            lie in each of ``2 * SCORE_BINS - 1`` bins of the joint score, and mean and spread of the other
            side's training scores.
        """
        (channel,) = (self.party.channel(name) for name in self.parameters.holders)
        labels = (self.labels.train[:SCORED_ROWS_MAX], self.labels.test[:SCORED_ROWS_MAX])
        if min(int((part == value).sum()) for part in labels for value in (0, 1)) < max(cell_min, 1):
            channel.send("turn", STOP)
            return {}
        channel.send("turn", GO_ON)
        design, weights = self.block.design, self.block.weights
        scores = [part[:SCORED_ROWS_MAX] @ weights for part in (design.train, design.test)]
        centre, spread = (
            vertical_state.read_number(channel.receive(label, size_max=SMALL)) for label in ("centre", "spread")
        )
        scale = vertical_design.Scale(
            float(scores[0].mean()), max(float(scores[0].std()) + abs(spread), 1e-6) / SCORE_WIDTHS
        )
        channel.send("width", write_number(scale.width))
        (train, test) = (
            self._histogram(channel, scale.flags(mine), part) for mine, part in zip(scores, labels, strict=True)
        )
        places = np.arange(1 - SCORE_BINS, SCORE_BINS, dtype=np.float64)
        centres = scale.centre + centre + places * scale.width
        return {
            **vertical_design.curve("train", *train, centres),
            **vertical_design.curve("test", *test, centres),
            **vertical_design.membership(train, test, centres),
        }

    def _histogram(self, channel: Channel, flags: Floats, labels: Floats) -> tuple[Floats, Floats]:
        """Return how many rows of the negative and of the positive class lie in each bin of the joint score."""
        calculator = self.calculator
        if calculator is None:
            raise ValueError("expected a trained model")
        levels, rows = self.parameters.levels, len(labels)
        size = SCORE_BINS * ckks.wire_bytes_max(rows, 0)
        sealed = ckks.unpack(channel.receive("flags", size_max=size), SCORE_BINS)
        by_bin = [calculator.read(part, rows, spent=levels) for part in sealed]
        asked, masks = [], []
        for value in (0, 1):
            products, hidden = calculator.histogram(by_bin, Columns(flags * (labels == value)[:, None]))
            asked.append(products)
            masks += hidden
        channel.send("products", b"".join(asked))
        opened = channel.receive("opened", size_max=ckks.opened_bytes(len(masks)))
        counts = np.maximum(np.rint(calculator.unmask(opened, masks)), 0.0).reshape(2, -1)
        return counts[0], counts[1]


def _saved(party: Party, frame: "pd.DataFrame", parameters: VerticalLinearParameters, rows_min: int) -> Saved:
    if party.resumed is not None:
        return Saved.from_bytes(party.resumed[1])
    keyed = keyed_rows(frame, parameters.keys[party.node])
    rows = psi.lead(party, keyed, minimum=parameters.rows_min(rows_min))
    saved = Saved(rows, 0, np.empty(0), np.empty(0))
    party.checkpoint(1, saved.to_bytes())
    return saved


def _split(frame: "pd.DataFrame", rows: NDArray[np.int64], parameters: VerticalLinearParameters, party: Party) -> Flags:
    if parameters.split is None:
        return vertical_state.hash_split(len(rows), parameters)
    chosen = Condition(column=parameters.split.column, operator="eq", values=(parameters.split.test_value,))
    test = holds(frame[parameters.split.column], chosen)[rows]
    for name in parameters.holders:
        party.channel(name).send("split", vertical_state.write_flags(test))
    return test


def _labels(
    frame: "pd.DataFrame", rows: NDArray[np.int64], test: Flags, parameters: VerticalLinearParameters, *, cell_min: int
) -> _Labels:
    column = frame[parameters.label.column]
    if bool(column.isna().to_numpy()[rows].any()):
        raise TaskRefusedError(
            RefusalCode.RESOURCE_ROWS,
            f"expected {parameters.label.column} in every joint row; filter rows without it in the order",
        )
    if parameters.model == "linear":
        values = linear_rows.numbers(column, parameters.label.column)[rows]
        mean, scale = float(values[~test].mean()), float(values[~test].std()) or 1.0
        units = np.clip((values - mean) / scale, -vertical_state.TARGET_MAX, vertical_state.TARGET_MAX)
        return _Labels(units[~test], units[test], np.ones(int((~test).sum())), mean, scale)
    positive = holds(column, parameters.label)[rows].astype(float)
    train = positive[~test]
    counts = (len(train) - int(train.sum()), int(train.sum()))
    if min(counts) < max(cell_min, 1):
        raise TaskRefusedError(RefusalCode.RESOURCE_ROWS, f"expected at least {cell_min} training rows of each class")
    weights = np.ones(len(train))
    if parameters.balanced:
        each = [min(len(train) / (2 * count), vertical_state.BALANCED_WEIGHT_MAX) for count in counts]
        weights = np.where(train == 1, each[1], each[0])
    return _Labels(train, positive[test], weights)
