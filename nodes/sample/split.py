"""Real tables that scikit-learn ships, dealt out to departments: each gets different rows of the same columns.

The rows are not dealt evenly: departments differ in size and in the share of the label, as
real ones do, so that a model of one department alone is visibly worse than the joint one.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nodes.sample.errors import SampleError
from nodes.sample.registers import write_table

Table: TypeAlias = Literal["breast_cancer", "diabetes"]
ROWS_MIN = 30
_SKEW = 4.0


def split_table(table: Table, departments: Sequence[str], folder: Path, *, seed: int) -> dict[str, Path]:
    """Write one CSV per department.

    Args:
        table: ``breast_cancer`` (569 rows, 30 measurements, ``malignant`` 0 or 1) or ``diabetes``
            (442 rows, 10 measurements in their own units, ``progression``).
        departments: names of the files, at least two.
        folder: where they go.
        seed: of the deal.

    Returns:
        Path per department. Every row of the table is in exactly one of them; each has at least
        30 rows, and of ``breast_cancer`` at least 10 of each label.

    Raises:
        SampleError: fewer than two departments, or more than the rows allow.
    """
    import pyarrow as pa

    rng = np.random.default_rng(seed)
    columns, strata = _load(table)
    owners = _deal(strata, len(departments), rng)
    paths: dict[str, Path] = {}
    for index, department in enumerate(departments):
        rows = rng.permutation(np.flatnonzero(owners == index))
        part = {"patient_no": np.array([f"{index + 1:02d}-{number:05d}" for number in range(1, len(rows) + 1)])}
        part.update({name: values[rows] for name, values in columns.items()})
        paths[department] = folder / f"{department}.csv"
        write_table(paths[department], pa.table(part))
    return paths


def _load(table: Table) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
    """Return the columns and the stratum of each row."""
    if table == "breast_cancer":
        from sklearn.datasets import load_breast_cancer

        bunch = load_breast_cancer()
        columns = {str(name).replace(" ", "_"): bunch.data[:, index] for index, name in enumerate(bunch.feature_names)}
        # The file codes malignant as 0.
        malignant = (bunch.target == 0).astype(np.int64)
        return {**columns, "malignant": malignant}, malignant
    from sklearn.datasets import load_diabetes

    bunch = load_diabetes(scaled=False)
    columns = {str(name): bunch.data[:, index] for index, name in enumerate(bunch.feature_names)}
    columns["age"], columns["sex"] = columns["age"].astype(np.int64), columns["sex"].astype(np.int64)
    return {**columns, "progression": bunch.target}, (bunch.target > np.median(bunch.target)).astype(np.int64)


def _deal(strata: NDArray[np.int64], departments: int, rng: np.random.Generator) -> NDArray[np.int64]:
    if not 2 <= departments <= len(strata) // (2 * ROWS_MIN):
        raise SampleError(f"expected 2 to {len(strata) // (2 * ROWS_MIN)} departments for this table")
    owners = np.zeros(len(strata), dtype=np.int64)
    for stratum in np.unique(strata):
        rows = rng.permutation(np.flatnonzero(strata == stratum))
        least = max(10, ROWS_MIN // 2)
        shares = rng.dirichlet(np.full(departments, _SKEW))
        sizes = least + np.floor(shares * (len(rows) - least * departments)).astype(np.int64)
        sizes[-1] = len(rows) - sizes[:-1].sum()
        owners[rows] = np.repeat(np.arange(departments), sizes)
    return owners
