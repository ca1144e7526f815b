"""Feature side of ``linear.vertical``: its columns meet the label side's residuals under encryption only.

``nodes.contract.tasks.vertical_linear`` draws a round. Scores pass through the feature holders in
the order of the parameters: the first also holds the key under which the label side computes, the
last evaluates the sigmoid under the label side's key for all of them.

Privacy: this side sees ciphertexts under the label side's key; products under its own key whose
integers are uniform; per round and own feature one sum over all training rows, with flooding
noise. No label and no score of a single row.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from nodes.contract.tasks import vertical_linear as contract
from nodes.contract.tasks.vertical_linear import SCORE_BINS, VerticalLinearParameters
from nodes.privacy import vertical_ckks as ckks
from nodes.privacy.vertical_ckks import Calculator, Columns, Holder
from nodes.tasks import model_parts, vertical_design, vertical_state
from nodes.tasks.party import Channel, Finished, Party
from nodes.tasks.spec import TaskContext
from nodes.tasks.vertical_rows import follow_order
from nodes.tasks.vertical_state import SMALL, STOP, Saved, read_number, write_number


def run(party: Party, context: TaskContext) -> Finished:
    """Be a feature holder until the model is trained; see the module text.

    Raises:
        TaskRefusedError: too few rows, or a peer that does not keep to the protocol.
    """
    parameters: VerticalLinearParameters = context.parameters  # type: ignore[assignment]  # checked when the order was taken
    (view,) = context.tables.values()
    thresholds = context.grant.thresholds
    if party.resumed is None:
        saved = Saved(follow_order(party, view, parameters), 0, np.empty(0), np.empty(0))
        party.checkpoint(1, saved.to_bytes())
    else:
        saved = Saved.from_bytes(party.resumed[1])
    count = len(saved.rows)
    if parameters.split is None:
        test = vertical_state.hash_split(count, parameters)
    else:
        sent = party.channel(parameters.label_party).receive("split", size_max=vertical_state.SPLIT_BYTES_MAX)
        test = vertical_state.read_flags(sent, count)
    vertical_state.require_rows(
        parameters, int((~test).sum()), int(test.sum()), least=thresholds.rows_min, cell_min=thresholds.cell_min
    )
    names = parameters.features[party.node]
    values = vertical_design.features_of(view, names, parameters.zero_is_missing)[saved.rows]
    vertical_design.require_groups(values[~test], names, thresholds.cell_min)
    design = vertical_design.design(values, test, parameters, has_intercept=False)
    block = vertical_design.block(design, parameters)
    if saved.rounds:
        block.weights, block.before, block.rounds = saved.weights, saved.before, saved.rounds
    training = _Training(party, parameters, block)
    holder = training.train(saved)
    if parameters.has_metrics and len(design.test):
        training.flags(holder)
    document = contract.part_document(
        parameters,
        party.node,
        means=design.means.tolist(),
        scales=design.scales.tolist(),
        weights=block.weights.tolist(),
    )
    digest = model_parts.keep(context.parts_dir, document)
    facts: dict[str, Any] = {
        "contributors": len(parameters.features),
        "outputs": [{"name": f"part.{party.node}.json", "sha256": digest}],
        "parameter_set": parameters.parameter_set,
        "training_rounds": block.rounds,
    }
    return Finished(facts, {"rounds": block.rounds, "part_sha256": digest})


@dataclass(slots=True, repr=False)
class _Training:
    """The rounds. Its repr shows nothing."""

    party: Party
    parameters: VerticalLinearParameters
    block: vertical_design.Block

    @property
    def place(self) -> int:
        """Which of the feature holders this is."""
        return self.parameters.holders.index(self.party.node)

    @property
    def label_side(self) -> Channel:
        """The way to the label side."""
        return self.party.channel(self.parameters.label_party)

    @property
    def upstream(self) -> Channel:
        """From where scores under the label side's key come."""
        return self.party.channel(self.parameters.holders[self.place - 1]) if self.place else self.label_side

    @property
    def downstream(self) -> Channel | None:
        """The next holder, if there is one."""
        after = self.parameters.holders[self.place + 1 :]
        return self.party.channel(after[0]) if after else None

    def train(self, saved: Saved) -> Holder | None:
        """Make the rounds that are left; return the own key if this is the first holder."""
        parameters, party = self.parameters, self.party
        rows = len(self.block.design.train)
        fixed = vertical_state.fixed_for(parameters, rows)
        first = party.channel(parameters.holders[0]) if self.place else None
        holder = None if first else Holder(fixed, answers=parameters.answers)
        if holder is not None:
            for name in (*parameters.holders[1:], parameters.label_party):
                party.channel(name).send("keys", holder.public_bytes)
        labels_key = Calculator(fixed, self.label_side.receive("keys", size_max=ckks.KEYS_BYTES_MAX))
        firsts_key = Calculator(fixed, first.receive("keys", size_max=ckks.KEYS_BYTES_MAX)) if first else None
        sealed = self._labels(labels_key, rows, fixed.levels) if self.downstream is None else None
        mine = Columns(self.block.design.train)
        left = range(0) if saved.is_done else range(saved.rounds + 1, parameters.rounds + 1)
        for number in left:
            score = vertical_design.scores(self.block.design.train, self.block.point, parameters)
            if holder is not None:
                (self.downstream or self.label_side).send("first-scores", holder.encrypt(score))
            if firsts_key is not None:
                self._pass_on(firsts_key, score, rows)
            residuals = self._residuals(labels_key, score, sealed, rows)
            products, masks = labels_key.products(residuals, mine)
            self.label_side.send("products", products)
            if holder is not None:
                count = len(parameters.features[parameters.label_party]) + 1
                asked = self.label_side.receive("products", size_max=ckks.products_bytes(count))
                self.label_side.send("opened", holder.open(asked, count))
            opened = self.label_side.receive("opened", size_max=ckks.opened_bytes(len(masks)))
            decrease = self.block.step(labels_key.unmask(opened, masks))
            self.label_side.send("moved", write_number(decrease))
            is_last = self.label_side.receive("turn", size_max=SMALL) == STOP or number == parameters.rounds
            state = Saved(saved.rows, number, self.block.weights, self.block.before, (), is_last)
            party.checkpoint(number + 1, state.to_bytes())
            party.progress(stage="train", round=number, rounds=parameters.rounds)
            if is_last:
                break
        return holder

    def _labels(self, key: Calculator, rows: int, levels: int) -> "_Sealed":
        size = ckks.wire_bytes_max(rows, levels)
        target = key.read(self.label_side.receive("labels", size_max=size), rows, spent=levels)
        if not self.parameters.balanced:
            return _Sealed(target, None)
        spent = self.parameters.polynomial.levels
        return _Sealed(target, key.read(self.label_side.receive("weights", size_max=size), rows, spent=spent))

    def _residuals(self, key: Calculator, score: vertical_design.Floats, sealed: "_Sealed | None", rows: int) -> Any:
        """Add the own scores under the label side's key; return the residuals, made here or by the last holder."""
        levels, holders = self.parameters.levels, self.parameters.holders
        size = ckks.wire_bytes_max(rows, levels)
        blocks = key.read(self.upstream.receive("scores", size_max=size), rows)
        key.add(blocks, score)
        if self.downstream is not None:
            self.downstream.send("scores", key.write(blocks))
            last = self.party.channel(holders[-1])
            return key.read(last.receive("residuals", size_max=size), rows, spent=levels)
        residuals = key.polynomial(self.parameters.polynomial, blocks)
        if sealed is None:
            raise ValueError("the last holder has the sealed labels")
        if sealed.weights is not None:
            residuals = key.times_encrypted(residuals, sealed.weights)
        key.add_encrypted(residuals, sealed.target)
        if len(holders) > 1:
            content = key.write(residuals)
            for name in holders[:-1]:
                self.party.channel(name).send("residuals", content)
        return residuals

    def _pass_on(self, key: Calculator, score: vertical_design.Floats, rows: int) -> None:
        """Add the own scores under the first holder's key and hand them on, at the end to the label side."""
        size = ckks.wire_bytes_max(rows, self.parameters.levels)
        blocks = key.read(self.upstream.receive("first-scores", size_max=size), rows)
        key.add(blocks, score)
        (self.downstream or self.label_side).send("first-scores", key.write(blocks))

    def flags(self, holder: Holder | None) -> None:
        """Take part in the joint score histogram of the test rows; see the label side's ``metrics``."""
        channel = self.label_side
        if holder is None or channel.receive("turn", size_max=SMALL) == STOP:
            return
        mine = self.block.design.test @ self.block.weights
        channel.send("centre", write_number(float(mine.mean())))
        channel.send("spread", write_number(float(mine.std())))
        width = read_number(channel.receive("width", size_max=SMALL))
        flags = vertical_design.Scale(float(mine.mean()), width).flags(mine)
        levels = self.parameters.levels
        channel.send("flags", ckks.pack(holder.encrypt(column, spent=levels) for column in flags.T))
        count = 2 * (2 * SCORE_BINS - 1)
        asked = channel.receive("products", size_max=ckks.products_bytes(count))
        channel.send("opened", holder.open(asked, count))


@dataclass(frozen=True, slots=True, repr=False)
class _Sealed:
    """The label side's labels under its key, at the last holder.

    Attributes:
        target: minus weight times label, per row.
        weights: of the rows in the loss, if classes are balanced.
    """

    target: Any
    weights: Any
