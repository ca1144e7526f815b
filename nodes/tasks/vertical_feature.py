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
from nodes.contract.tasks.vertical_linear import SCORE_BINS, SCORED_ROWS_MAX, VerticalLinearParameters
from nodes.privacy import psi
from nodes.privacy import vertical_ckks as ckks
from nodes.privacy.keys import keyed_rows
from nodes.privacy.vertical_ckks import Calculator, Columns, Holder
from nodes.tasks import model_parts, vertical_design, vertical_state
from nodes.tasks.party import Channel, Finished, Party
from nodes.tasks.spec import TaskContext
from nodes.tasks.vertical_state import SMALL, STOP, Saved, read_number, write_number


def run(party: Party, context: TaskContext) -> Finished:
    """Be a feature holder until the model is trained; see the module text.

    Raises:
        TaskRefusedError: too few rows, or a peer that does not keep to the protocol.
    """
    parameters: VerticalLinearParameters = context.parameters  # type: ignore[assignment]  # checked when the order was taken
    (view,) = context.tables.values()
    frame = view.frame()
    thresholds = context.grant.thresholds
    if party.resumed is None:
        keyed = keyed_rows(frame, parameters.keys[party.node])
        least = parameters.rows_min(thresholds.rows_min)
        rows = psi.follow(party, parameters.label_party, keyed, minimum=least)
        saved = Saved(rows, 0, np.empty(0), np.empty(0))
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
    values = vertical_design.features_of(frame, names, parameters.zero_is_missing)[saved.rows]
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
        # Long messages go one way at a time, so that no two parties wait for each other to take one.
        labels_key = Calculator(fixed, self.label_side.receive("keys", size_max=ckks.KEYS_BYTES_MAX))
        sealed = self._labels(labels_key, rows, fixed.levels) if self.downstream is None else None
        holder = None if first else Holder(fixed, answers=parameters.answers)
        if holder is not None:
            for name in (*parameters.holders[1:], parameters.label_party):
                party.channel(name).send("keys", holder.public_bytes)
        firsts_key = Calculator(fixed, first.receive("keys", size_max=ckks.KEYS_BYTES_MAX)) if first else None
        mine = Columns(self.block.design.train)
        left = range(0) if saved.is_done else range(saved.rounds + 1, parameters.rounds + 1)
        for number in left:
            score = vertical_design.scores(self.block.design.train, self.block.point, parameters)
            mine_sealed = b"" if holder is None else holder.encrypt(score)
            blocks = self._added(labels_key, "scores", self.upstream, score, rows)
            if self.downstream is not None:
                self.downstream.send("scores", labels_key.write(blocks))
            if firsts_key is not None:
                mine_sealed = firsts_key.write(self._added(firsts_key, "first-scores", self.upstream, score, rows))
            (self.downstream or self.label_side).send("first-scores", mine_sealed)
            residuals = self._residuals(labels_key, blocks, sealed, rows)
            products, masks = labels_key.products(residuals, mine)
            asked = b""
            count = len(parameters.features[parameters.label_party]) + 1
            if holder is not None:
                asked = self.label_side.receive("products", size_max=ckks.products_bytes(count))
            self.label_side.send("products", products)
            if holder is not None:
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

    def _added(
        self, key: Calculator, label: str, sender: Channel, score: vertical_design.Floats, rows: int
    ) -> list[Any]:
        """Receive encrypted scores and add the own ones."""
        blocks = key.read(sender.receive(label, size_max=ckks.wire_bytes_max(rows, self.parameters.levels)), rows)
        key.add(blocks, score)
        return blocks

    def _residuals(self, key: Calculator, blocks: list[Any], sealed: "_Sealed | None", rows: int) -> list[Any]:
        """Return the residuals under the label side's key, made here or by the last holder."""
        levels, holders = self.parameters.levels, self.parameters.holders
        if sealed is None:
            size = ckks.wire_bytes_max(rows, levels)
            sent = self.party.channel(holders[-1]).receive("residuals", size_max=size)
            return key.read(sent, rows, spent=levels)
        residuals = key.polynomial(self.parameters.polynomial, blocks)
        if sealed.weights is not None:
            residuals = key.times_encrypted(residuals, sealed.weights)
        key.add_encrypted(residuals, sealed.target)
        for name in holders[:-1]:
            self.party.channel(name).send("residuals", key.write(residuals))
        return residuals

    def flags(self, holder: Holder | None) -> None:
        """Take part in the joint score histogram ; see the label side's ``metrics``."""
        channel = self.label_side
        if holder is None or channel.receive("turn", size_max=SMALL) == STOP:
            return
        design, weights = self.block.design, self.block.weights
        scores = [part[:SCORED_ROWS_MAX] @ weights for part in (design.train, design.test)]
        channel.send("centre", write_number(float(scores[0].mean())))
        channel.send("spread", write_number(float(scores[0].std())))
        scale = vertical_design.Scale(float(scores[0].mean()), read_number(channel.receive("width", size_max=SMALL)))
        levels, count = self.parameters.levels, 2 * (2 * SCORE_BINS - 1)
        for mine in scores:
            channel.send("flags", ckks.pack(holder.encrypt(column, spent=levels) for column in scale.flags(mine).T))
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
