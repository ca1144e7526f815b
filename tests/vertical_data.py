"""Tables split by columns, for tests of vertical tasks."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

_DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"
HETERO = _DATA / "fate_small_hetero"
DEFAULT_CREDIT = _DATA / "fate_default_credit"


@dataclass
class Joined:
    """The joint table; row n has identifier ``idn``. A fifth of the rows is held out."""

    left: np.ndarray
    right: np.ndarray
    labels: np.ndarray
    held_out: np.ndarray = field(default=None)

    def __post_init__(self) -> None:
        if self.held_out is None:
            order = np.random.default_rng(0).permutation(len(self.labels))
            self.held_out = np.ones(len(self.labels), dtype=int)
            self.held_out[order[: int(0.8 * len(order))]] = 0

    def names(self, side: str) -> list[str]:
        return [f"{side}{place}" for place in range((self.left if side == "a" else self.right).shape[1])]

    def frames(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The label side's and the feature side's table, the latter in another order."""
        identifiers = [f"id{place}" for place in range(len(self.labels))]
        left = pd.DataFrame(self.left, columns=self.names("a")).assign(
            id=identifiers, y=self.labels, held_out=self.held_out
        )
        right = pd.DataFrame(self.right, columns=self.names("b")).assign(id=identifiers)
        return left, right.sample(frac=1.0, random_state=3).reset_index(drop=True)

    def standardised(self, winsor: float) -> np.ndarray:
        values = np.hstack([self.left, self.right])
        train = values[self.held_out == 0]
        units = (values - train.mean(axis=0)) / train.std(axis=0)
        return np.clip(units, -winsor, winsor) if winsor else units


def hetero(name: str) -> Joined:
    return _read(HETERO / f"{name}_hetero_guest.csv", HETERO / f"{name}_hetero_host.csv")


def default_credit() -> Joined:
    return _read(
        DEFAULT_CREDIT / "default_credit_hetero_guest.csv.gz", DEFAULT_CREDIT / "default_credit_hetero_host.csv.gz"
    )


def _read(guest_path: Path, host_path: Path) -> Joined:
    guest = pd.read_csv(guest_path).set_index("id")
    host = pd.read_csv(host_path).set_index("id").loc[guest.index]
    labels = guest.pop("y").to_numpy().astype(int)
    return Joined(guest.to_numpy(dtype=float), host.to_numpy(dtype=float), labels)
