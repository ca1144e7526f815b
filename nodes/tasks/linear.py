"""Node half of ``linear.secagg``: this node's part of a horizontal logistic regression.

``nodes.contract.tasks.linear`` lists the steps. Each figure is masked before it leaves;
``nodes.privacy.secagg`` decides whether a sum may start and whether it may be opened. What is
asked follows from the order and from the sums before, which this node opened for itself
(``nodes.contract.tasks.descent``): nobody can send it a point, so no point can be made up to
single out a row.

Privacy: operator and nodes learn, of all contributing nodes together, rows and positives,
per feature the count, mean and second moments, and per round rows and rows·weights; the
operator also score histograms of 64 bins, and what attacks on the model achieve: histograms
of 64 bins of how likely rows were trained on, and counts of rows whose label it memorised,
whose features follow from it, or that the opened sums rebuild. Each is opened once, so no sum can be compared
with itself over fewer nodes. Of this node alone leave, once and only over at least
``cell_min`` test rows of each class: area under the curve and accuracy of its own and of the
federated model on its test rows, rounded to hundredths.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nodes.contract import masking
from nodes.contract.messages import RefusalCode
from nodes.contract.parameters import SECAGG
from nodes.contract.signing import sha256_hex
from nodes.contract.tasks import linear as contract
from nodes.contract.tasks.descent import UNIT, CannotTrainError, Descent
from nodes.contract.tasks.linear import LinearParameters
from nodes.privacy.secagg import MaskedSums, refuse
from nodes.tasks import linear_attacks
from nodes.tasks import linear_rows as rows
from nodes.tasks.linear_rows import Floats
from nodes.tasks.spec import Outcome, TaskContext, TaskRefusedError, TaskSession

_SUMS = frozenset({"linear.means", "linear.gram", "linear.train", "linear.score"})


@dataclass(frozen=True, slots=True, repr=False)
class _Model:
    means: Floats
    scales: Floats
    weights: Floats

    def logits(self, values: Floats) -> Floats:
        result: Floats = rows.standardised(values, self.means, self.scales) @ self.weights
        return result


@dataclass(slots=True, repr=False)
class LinearSession:
    """One session at one node; see the module. Holds rows and secrets: its repr shows none."""

    operator: str
    node: str
    parameters: LinearParameters
    cell_min: int
    data: rows.Rows
    sums: MaskedSums
    descent: Descent
    outputs: list[dict[str, str]] = field(default_factory=list)
    _unverified: int | None = None
    _scored: _Model | None = None
    _compared: bool = False

    def step(self, sender: str, kind: str, body: Mapping[str, Any], attachments: Sequence[bytes]) -> Outcome:
        """Do one step; see ``TaskSession.step``."""
        if sender != self.operator:
            raise TaskRefusedError(RefusalCode.SENDER_ROLE, "expected the operator of the order")
        if kind in _SUMS:
            return self._masked(kind, body, attachments)
        acts: dict[str, Callable[[Mapping[str, Any], Sequence[bytes]], Outcome]] = {
            "secagg.keys": self._keys,
            "secagg.shares": self._shares,
            "secagg.confirm": self._confirm,
            "secagg.unmask": self._unmask,
            "linear.compare": self._compare,
            "linear.accept": self._accept,
        }
        if kind not in acts:
            raise TaskRefusedError(RefusalCode.KIND_UNKNOWN, "expected a step of linear.secagg")
        return acts[kind](body, attachments)

    def finish(self) -> dict[str, Any]:
        """Forget rows and secrets; return the facts of the node-run statement."""
        self.sums.close()
        empty = np.empty((0, len(self.parameters.features)))
        none = np.empty(0, dtype=bool)
        self.data = rows.Rows(empty, none, empty, none)
        return {
            "contributors": min(self.sums.opened, default=0),
            "outputs": list(self.outputs),
            "parameter_set": SECAGG.name,
            "sums_opened": len(self.sums.opened),
            "training_rounds": len(self.descent.moved_micro),
            "own_metrics_given": self._compared,
        }

    def _keys(self, body: Mapping[str, Any], attachments: Sequence[bytes]) -> Outcome:
        _fields(body)
        return Outcome({}, tuple(self.sums.share(attachments)))

    def _shares(self, body: Mapping[str, Any], attachments: Sequence[bytes]) -> Outcome:
        _fields(body, "holders")
        self.sums.receive(_names(body["holders"]), attachments)
        return Outcome()

    def _confirm(self, body: Mapping[str, Any], attachments: Sequence[bytes]) -> Outcome:
        _fields(body, "sum", "survivors")
        _parts(attachments, 0)
        survivors = body["survivors"]
        if not isinstance(survivors, dict) or not all(isinstance(value, str) for value in survivors.values()):
            raise refuse("expected a digest per survivor")
        try:
            envelope = self.sums.confirm(_number(body["sum"]), survivors)
        except ValueError as error:
            raise refuse("expected SHA-256 digests of the masked vectors") from error
        return Outcome({}, (envelope.to_bytes(),))

    def _unmask(self, body: Mapping[str, Any], attachments: Sequence[bytes]) -> Outcome:
        _fields(body, "sum")
        number = _number(body["sum"])
        seeds, keys = self.sums.unmask(number, attachments)
        if self.descent.expected == "linear.score":
            self._scored = self._model()
        self._unverified = number
        return Outcome({"seeds": seeds, "keys": keys})

    def _masked(self, kind: str, body: Mapping[str, Any], attachments: Sequence[bytes]) -> Outcome:
        _fields(body, "active", "previous", "sum")
        number, active = _number(body["sum"]), _names(body["active"])
        if self._scored is not None:
            raise refuse("expected no further sum: the model was scored")
        self.sums.check_turn(number, active)
        self._go_on(body["previous"], attachments)
        if kind != self.descent.expected:
            raise refuse(f"expected {self.descent.expected}, which follows from the sums so far, got {kind}")
        try:
            ring = masking.to_ring(self._vector(kind))
        except ValueError as error:
            raise refuse(f"expected figures of {kind} within the range of {SECAGG.name}") from error
        return Outcome({}, (self.sums.mask(number, active, self.descent.question_sha256(), ring),))

    def _go_on(self, previous: object, attachments: Sequence[bytes]) -> None:
        if self._unverified is None:
            return
        if not isinstance(previous, dict) or set(previous) != {"keys", "seeds", "sum"}:
            raise refuse("expected the evidence of the sum before")
        if previous["sum"] != self._unverified:
            raise refuse(f"expected the evidence of sum {self._unverified}")
        seeds, keys = _secrets(previous["seeds"]), _secrets(previous["keys"])
        total = self.sums.verify(self._unverified, attachments, seeds, keys)
        if self.descent.expected == "linear.means":
            # A small class may stand at one node, not over all: the weights would then be about its few rows.
            count, positives = total[:2]
            if 0 < min(positives, count - positives) < self.cell_min:
                raise TaskRefusedError(
                    RefusalCode.RESOURCE_ROWS, f"expected at least {self.cell_min} training rows of each class"
                )
        try:
            self.descent.take(total)
        except CannotTrainError as error:
            raise refuse(str(error)) from error
        self._unverified = None

    def _vector(self, kind: str) -> list[int]:
        match kind:
            case "linear.means":
                return self._means()
            case "linear.gram":
                return self._gram()
            case "linear.train":
                return self._train()
            case _:
                return self._score()

    def _model(self) -> _Model:
        return _Model(np.array(self.descent.means), np.array(self.descent.scales), np.array(self.descent.point))

    def _means(self) -> list[int]:
        present, totals = rows.present_totals(self.data.train)
        vector = [len(self.data.train), int(self.data.train_positive.sum())]
        for count, total in zip(present, totals, strict=True):
            vector += [int(count), *contract.digits(float(total))]
        return vector

    def _gram(self) -> list[int]:
        difference = rows.centred(self.data.train, np.array(self.descent.means))
        gram = difference.T @ difference
        upper = gram[np.triu_indices(len(gram))]
        return [digit for value in upper for digit in contract.digits(float(value))]

    def _train(self) -> list[int]:
        model = self._model()
        moved = rows.steps(
            rows.standardised(self.data.train, model.means, model.scales),
            self.data.train_positive,
            model.weights,
            preconditioner=np.array(self.descent.inverse),
            penalty=self.parameters.l2_micro / 1_000_000,
            count=self.parameters.local_steps,
        )
        number = len(self.data.train)
        return [number, *(round(float(weight) * number * UNIT) for weight in moved)]

    def _score(self) -> list[int]:
        model, data = self._model(), self.data
        vector: list[int] = []
        losses: list[int] = []
        for values, positive in ((data.train, data.train_positive), (data.test, data.test_positive)):
            logits = model.logits(values)
            vector += [int(cell) for cell in rows.histogram(logits[~positive])]
            vector += [int(cell) for cell in rows.histogram(logits[positive])]
            losses.append(round(rows.log_loss_total(logits, positive) * UNIT))
        return [*vector, *losses, *linear_attacks.measure(data, self.descent, node=self.node)]

    def _compare(self, body: Mapping[str, Any], attachments: Sequence[bytes]) -> Outcome:
        _fields(body)
        _parts(attachments, 0)
        if self._scored is None or self._compared:
            raise refuse("expected one comparison, after the scores were opened")
        self._compared = True
        data, positive = self.data, self.data.test_positive
        classes = (int(positive.sum()), int((~positive).sum()))
        trainable = bool(data.train_positive.any()) and not bool(data.train_positive.all())
        if min(classes) < self.cell_min or not trainable:
            return Outcome({"withheld": True})
        penalty = self.parameters.l2_micro / 1_000_000
        alone = _Model(*rows.fit_alone(data.train, data.train_positive, penalty=penalty))
        body_out: dict[str, Any] = {"withheld": False}
        for name, model in (("alone", alone), ("federated", self._scored)):
            logits = model.logits(data.test)
            body_out[f"{name}_auc_x100"] = round(rows.auc(logits, positive) * 100)
            body_out[f"{name}_accuracy_x100"] = round(rows.accuracy(logits, positive) * 100)
        return Outcome(body_out)

    def _accept(self, body: Mapping[str, Any], attachments: Sequence[bytes]) -> Outcome:
        _fields(body)
        _parts(attachments, 1)
        if self._scored is None or self.outputs:
            raise refuse("expected one model file, after its scores were opened")
        expected = self.descent.model_document()
        if attachments[0] != expected:
            raise refuse("expected the model file of the weights that were scored")
        self.outputs.append({"name": "model.json", "sha256": sha256_hex(expected)})
        return Outcome({"sha256": sha256_hex(expected)})


def start(context: TaskContext) -> tuple[TaskSession, Outcome]:
    """Open a session: read the rows, check their number, advertise the keys of every sum.

    Raises:
        TaskRefusedError: not one table, a column missing, too few rows for this task.
    """
    parameters = context.parameters
    if not isinstance(parameters, LinearParameters):
        raise TaskRefusedError(RefusalCode.TASK_PARAMETERS, "expected parameters of linear.secagg")
    if len(context.tables) != 1:
        raise TaskRefusedError(RefusalCode.TASK_PARAMETERS, f"expected one table, got {len(context.tables)}")
    (view,) = context.tables.values()
    missing = sorted(set(parameters.columns) - set(view.columns))
    if missing:
        raise TaskRefusedError(RefusalCode.GRANT_COLUMN, f"expected the order to name the columns {', '.join(missing)}")
    data = rows.read(view, parameters, node=context.node)
    least = max(context.grant.thresholds.rows_min, 1)
    labelled = len(data.train) + len(data.test)
    if labelled < least or not 0 < len(data.train) <= contract.ROWS_MAX:
        raise TaskRefusedError(
            RefusalCode.RESOURCE_ROWS, f"expected at least {least} labelled rows, some of them for training"
        )
    # A split that singles out few rows would open their scores, or what the others' sums lack.
    for part in (len(data.train), len(data.test)):
        if 0 < part < context.grant.thresholds.cell_min:
            raise TaskRefusedError(
                RefusalCode.RESOURCE_ROWS,
                f"expected no rows or at least {context.grant.thresholds.cell_min} on each side of the split",
            )
    unknown = sorted(set(context.order.parties) - set(context.actors))
    if unknown:
        raise TaskRefusedError(
            RefusalCode.ACTOR_UNKNOWN, f"expected {', '.join(unknown)} in the trust data with keys that count now"
        )
    sums = MaskedSums(
        node=context.node,
        session_id=context.order.session_id,
        parties=context.order.parties,
        verify_keys={party: context.actors[party].verify_key for party in context.order.parties},
        secrets=context.secrets,
        sums=parameters.sums,
        contributors_min=context.grant.thresholds.contributors_min,
    )
    session = LinearSession(
        operator=context.order.operator,
        node=context.node,
        parameters=parameters,
        cell_min=context.grant.thresholds.cell_min,
        data=data,
        sums=sums,
        descent=Descent(parameters),
    )
    return session, Outcome({"parameter_set": SECAGG.name}, (sums.advertise().to_bytes(),))


def _fields(body: Mapping[str, Any], *names: str) -> None:
    if set(body) != set(names):
        raise refuse(f"expected the fields {', '.join(names) or 'none'} in the body")


def _parts(attachments: Sequence[bytes], count: int) -> None:
    if len(attachments) != count:
        raise refuse(f"expected {count} attachments, got {len(attachments)}")


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise refuse("expected the number of a sum")
    return value


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise refuse("expected a list of nodes")
    return tuple(value)


def _secrets(value: object) -> dict[str, bytes]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise refuse("expected a rebuilt secret per node")
    try:
        return {name: bytes.fromhex(text) for name, text in value.items()}
    except ValueError as error:
        raise refuse("expected secrets in hex") from error
