"""Registers of invented persons and enterprises, for trials at any size.

Codes are valid (GB 11643, GB 32100 with the organisation code of GB 11714), birth date, sex and
identity number agree, district and division code agree; names come from small Faker pools. The
districts and their codes 530191 to 530193 do not exist. A share of rows carries errors, every
one listed; a few more rows are canaries, valid but recognisable, so that a test can look for
them in everything that leaves a node. Equal arguments give equal bytes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nodes.sample.errors import SampleError
from quality.codes import USCC_ALPHABET, division_codes, id_check_characters, uscc_check_values, usccs_valid

DISTRICTS: Mapping[str, str] = {"云东区": "530191", "云西区": "530192", "云北区": "530193"}
Errors = Mapping[str, int]
# Errors per 100,000 rows.
PERSON_ERRORS: Errors = {
    "id_check_character": 400,
    "birth_date_differs": 300,
    "sex_differs": 200,
    "mobile_format": 600,
    "mobile_missing": 2_000,
    "name_missing": 100,
    "division_differs": 200,
    "record_no_repeated": 100,
    "updated_before_registered": 100,
}
# Of the further columns that a register linked to employers has.
EMPLOYMENT_ERRORS: Errors = {"employer_unknown": 300, "income_negative": 100, "email_format": 200}
ENTERPRISE_ERRORS: Errors = {
    "uscc_check_character": 300,
    "uscc_format": 100,
    "name_missing": 100,
    "division_differs": 200,
    "record_no_repeated": 100,
    "updated_before_established": 100,
    "capital_negative": 100,
}
# The same tables when a transfer broke the key column: critical rules fail.
PERSON_ERRORS_CRITICAL: Errors = {**PERSON_ERRORS, "id_check_character": 6_000}
ENTERPRISE_ERRORS_CRITICAL: Errors = {**ENTERPRISE_ERRORS, "uscc_check_character": 6_000}

_Array = NDArray[Any]
_BIRTH_FIRST = np.datetime64("1940-01-01")
_BIRTH_DAYS = 24_000
_ORG_WEIGHTS = (3, 7, 9, 10, 5, 8, 4, 2)
_TRADES = (
    "科技 信息技术 网络 数据 智能装备 机械 电子 新材料 生物医药 医疗器械 环保 能源 建筑 装饰工程 物流 商贸 食品 农业 "
    "种业 纺织 服装 家具 教育咨询 文化传媒 广告 旅游 餐饮管理 物业服务 检测技术 咨询"
)
_CAPITALS = (10, 50, 100, 200, 500, 1_000, 3_000, 5_000, 10_000)


@dataclass(frozen=True, slots=True)
class Planted:
    """What was put into a register on purpose.

    Attributes:
        rows: rows of the register.
        errors: row numbers (0 is the first after the header) per kind of error; no row twice.
        canaries: the recognisable rows, as text per column.
        canary_rows: their row numbers.
    """

    rows: int
    errors: Mapping[str, tuple[int, ...]]
    canaries: tuple[Mapping[str, str], ...]
    canary_rows: tuple[int, ...]

    def write(self, path: Path) -> None:
        """Write the list as JSON. It holds rows, so it belongs beside a test, never into a node's folder."""
        path.write_text(json.dumps(self.to_json(), ensure_ascii=False, indent=1), encoding="utf-8")

    def to_json(self) -> dict[str, Any]:
        """Return the list as JSON."""
        return {
            "rows": self.rows,
            "errors": {kind: list(rows) for kind, rows in self.errors.items()},
            "canaries": [dict(canary) for canary in self.canaries],
            "canary_rows": list(self.canary_rows),
        }

    def __repr__(self) -> str:
        counts = {kind: len(rows) for kind, rows in self.errors.items()}
        return f"Planted(rows={self.rows}, errors={counts}, canaries={len(self.canaries)})"


def write_person_register(
    path: Path,
    rows: int,
    *,
    seed: int,
    district: str = "云北区",
    as_of: date,
    errors: Errors = PERSON_ERRORS,
    canaries: int = 3,
    encoding: Literal["utf-8", "gb18030"] = "utf-8",
    employers: Sequence[str] = (),
) -> Planted:
    """Write a register of persons.

    Args:
        path: ``.csv`` or ``.parquet``.
        rows: at least 10 more than ``canaries``.
        seed: of everything random.
        district: one of ``DISTRICTS``.
        as_of: date of the latest change in the register; an old one makes it stale.
        errors: per 100,000 rows, of the kinds of ``PERSON_ERRORS``; ``{}`` for a clean table.
        canaries: recognisable rows among them.
        encoding: of a CSV.
        employers: credit codes of enterprises; with them each person has an employer among them, an
            income, months of insurance and an e-mail address, and errors may be of ``EMPLOYMENT_ERRORS`` too.

    Returns:
        What was planted where.
    """
    rng = np.random.default_rng(seed)
    _check(rows, canaries, errors, {**PERSON_ERRORS, **(EMPLOYMENT_ERRORS if employers else {})}, district)
    births, sequences, ids = _person_ids(rng, rows)
    male = sequences % 2 == 1
    registered, updated = _dates(rng, rows, as_of)
    columns: dict[str, _Array] = {
        "record_no": _record_numbers("P", rows),
        "name": _person_names(seed, rng, male),
        "id_no": ids,
        "sex": np.where(male, "男", "女").astype(object),
        "birth_date": births,
        "mobile": (rng.integers(3, 10, rows) * 10**9 + 10**10 + rng.integers(0, 10**9, rows))
        .astype("U11")
        .astype(object),
        "division": np.full(rows, DISTRICTS[district], dtype=object),
        "district": np.full(rows, district, dtype=object),
        "registered_on": registered,
        "updated_on": updated,
        "status": np.array(["在册", "注销", "迁出"], dtype=object)[rng.choice(3, rows, p=(0.94, 0.03, 0.03))],
    }
    if employers:
        columns |= _employment(rng, rows, employers)
    places = _places(rng, rows, canaries, errors)
    canary_rows = places.pop("canary")
    for index, row in enumerate(canary_rows):
        _person_canary(columns, int(row), index, seed)
    for kind, where in places.items():
        _break_person(columns, kind, where, district)
    return _finish(path, columns, encoding, places, canary_rows)


def write_linked_registers(
    folder: Path,
    persons: int,
    enterprises: int,
    *,
    seed: int,
    district: str = "云北区",
    as_of: date,
    suffix: Literal[".csv", ".parquet"] = ".csv",
    encoding: Literal["utf-8", "gb18030"] = "utf-8",
    errors: tuple[Errors, Errors] = (PERSON_ERRORS, ENTERPRISE_ERRORS),
) -> dict[str, Planted]:
    """Write ``enterprises`` and ``persons``, where each person's employer is one of the enterprises.

    Args:
        folder: where the two files go.
        persons: rows of the one.
        enterprises: rows of the other.
        seed: of everything random.
        district: of both.
        as_of: date of the latest change.
        suffix: kind of the files.
        encoding: of CSV.
        errors: of persons and of enterprises, per 100,000 rows.

    Returns:
        What was planted, by file name without suffix.
    """
    firms = write_enterprise_register(
        folder / f"enterprises{suffix}", enterprises, seed=seed, district=district, as_of=as_of,
        errors=errors[1], encoding=encoding,
    )  # fmt: skip
    people = write_person_register(
        folder / f"persons{suffix}",
        persons,
        seed=seed + 1,
        district=district,
        as_of=as_of,
        errors={**errors[0], **EMPLOYMENT_ERRORS},
        encoding=encoding,
        employers=_valid_usccs(folder / f"enterprises{suffix}", encoding),
    )
    return {"enterprises": firms, "persons": people}


def _valid_usccs(path: Path, encoding: str) -> list[str]:
    """Return the codes of a written register that are well formed: a person works for none of the broken ones."""
    import pyarrow.compute as pc

    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        column = pq.read_table(path, columns=["uscc"])["uscc"]
    else:
        import pyarrow.csv as pv

        column = pv.read_csv(
            path,
            read_options=pv.ReadOptions(encoding=encoding),
            convert_options=pv.ConvertOptions(include_columns=["uscc"]),
        )["uscc"]
    return list(column.filter(pc.fill_null(usccs_valid(column), fill_value=False)).to_pylist())


def write_enterprise_register(
    path: Path,
    rows: int,
    *,
    seed: int,
    district: str = "云北区",
    as_of: date,
    errors: Errors = ENTERPRISE_ERRORS,
    canaries: int = 3,
    encoding: Literal["utf-8", "gb18030"] = "utf-8",
) -> Planted:
    """Write a register of enterprises; arguments as in ``write_person_register``."""
    rng = np.random.default_rng(seed)
    _check(rows, canaries, errors, ENTERPRISE_ERRORS, district)
    established, updated = _dates(rng, rows, as_of)
    forms = np.array(["有限责任公司", "股份有限公司", "个人独资企业", "合伙企业"], dtype=object)
    columns: dict[str, _Array] = {
        "record_no": _record_numbers("E", rows),
        "name": _company_names(seed, rng, rows),
        "uscc": _usccs(rng, rows, DISTRICTS[district]),
        "legal_form": forms[rng.choice(4, rows, p=(0.82, 0.06, 0.07, 0.05))],
        "capital": np.array(_CAPITALS, dtype=float)[rng.integers(0, len(_CAPITALS), rows)],
        "division": np.full(rows, DISTRICTS[district], dtype=object),
        "district": np.full(rows, district, dtype=object),
        "established_on": established,
        "updated_on": updated,
        "status": np.array(["存续", "注销", "吊销"], dtype=object)[rng.choice(3, rows, p=(0.92, 0.06, 0.02))],
    }
    places = _places(rng, rows, canaries, errors)
    canary_rows = places.pop("canary")
    for index, row in enumerate(canary_rows):
        columns["name"][row] = f"金丝雀{'甲乙丙丁戊己庚辛壬癸'[index % 10]}第{seed}号{index}试验有限公司"
    for kind, where in places.items():
        _break_enterprise(columns, kind, where, district)
    return _finish(path, columns, encoding, places, canary_rows)


def _check(rows: int, canaries: int, errors: Errors, known: Errors, district: str) -> None:
    if district not in DISTRICTS:
        raise SampleError(f"expected one of the districts {', '.join(DISTRICTS)}")
    if set(errors) - set(known):
        raise SampleError(f"expected errors of the kinds {', '.join(known)}")
    if rows < canaries + 10 or sum(errors.values()) > 50_000:
        raise SampleError("expected at least 10 rows beside the canaries, and errors in at most half of the rows")


def _digits(numbers: _Array, width: int) -> _Array:
    return ((numbers[:, None] // 10 ** np.arange(width - 1, -1, -1)) % 10).astype(np.uint8)


def _text(matrix: _Array) -> _Array:
    """Return rows of ASCII bytes as text."""
    width = matrix.shape[1]
    return np.ascontiguousarray(matrix.astype(np.uint8)).view(f"S{width}").ravel().astype(f"U{width}").astype(object)


def _person_ids(rng: np.random.Generator, rows: int) -> tuple[_Array, _Array, _Array]:
    """Return birth dates, sequence numbers and identity numbers, each number once."""
    areas = np.array(sorted(int(code) for code in division_codes()))
    place = np.zeros(rows, dtype=np.int64)
    day = np.zeros(rows, dtype=np.int64)
    sequence = np.zeros(rows, dtype=np.int64)
    todo = np.arange(rows)
    while len(todo):
        place[todo] = rng.integers(0, len(areas), len(todo))
        day[todo] = rng.integers(0, _BIRTH_DAYS, len(todo))
        sequence[todo] = rng.integers(1, 900, len(todo))
        _, first = np.unique((place * _BIRTH_DAYS + day) * 1_000 + sequence, return_index=True)
        again = np.ones(rows, dtype=bool)
        again[first] = False
        todo = np.flatnonzero(again)
    births = _BIRTH_FIRST + day.astype("timedelta64[D]")
    months = births.astype("datetime64[M]")
    stamp = (
        (births.astype("datetime64[Y]").astype(np.int64) + 1970) * 10_000
        + (months.astype(np.int64) % 12 + 1) * 100
        + (births - months).astype(np.int64)
        + 1
    )
    digits = np.hstack([_digits(areas[place], 6), _digits(stamp, 8), _digits(sequence, 3)])
    return births, sequence, _text(np.hstack([digits + 48, id_check_characters(digits)[:, None]]))


def _usccs(rng: np.random.Generator, rows: int, division: str) -> _Array:
    """Return credit codes of enterprises, each once, with a valid organisation code inside."""
    # Eight characters of the organisation code: two letters or digits, six digits.
    serial = rng.choice(31 * 31 * 10**6, rows, replace=False)
    values = np.zeros((rows, 17), dtype=np.uint8)
    values[:, 0] = 9
    values[:, 1] = rng.integers(1, 4, rows)
    values[:, 2:8] = [int(digit) for digit in division]
    values[:, 8] = serial // (31 * 10**6)
    values[:, 9] = serial // 10**6 % 31
    values[:, 10:16] = _digits(serial % 10**6, 6)
    # GB 11714 counts letters from A = 10 without the gaps that GB 32100 has.
    weight_of = np.array([int(char, 36) for char in USCC_ALPHABET], dtype=np.int64)
    check = 11 - (weight_of[values[:, 8:16]] @ np.array(_ORG_WEIGHTS)) % 11
    ten = USCC_ALPHABET.index("X")
    values[:, 16] = np.where(check == 10, ten, np.where(check == 11, 0, check))
    alphabet = np.frombuffer(USCC_ALPHABET.encode(), dtype=np.uint8)
    return _text(np.hstack([alphabet[values], alphabet[uscc_check_values(values)][:, None]]))


def _person_names(seed: int, rng: np.random.Generator, male: _Array) -> _Array:
    from faker import Faker

    faker = Faker("zh_CN")
    faker.seed_instance(seed)
    families = np.array([faker.last_name() for _ in range(200)], dtype=object)
    men = np.array([faker.first_name_male() for _ in range(300)], dtype=object)
    women = np.array([faker.first_name_female() for _ in range(300)], dtype=object)
    given = np.where(male, men[rng.integers(0, 300, len(male))], women[rng.integers(0, 300, len(male))])
    return np.asarray(families[rng.integers(0, 200, len(male))] + given, dtype=object)


def _company_names(seed: int, rng: np.random.Generator, rows: int) -> _Array:
    from faker import Faker

    faker = Faker("zh_CN")
    faker.seed_instance(seed)
    prefixes = np.array(sorted({faker.company_prefix() for _ in range(2_000)}), dtype=object)
    trades = np.array(_TRADES.split(), dtype=object)
    space = len(prefixes) ** 2 * len(trades)
    if rows > space:
        raise SampleError(f"expected at most {space} enterprises, since each has a name of its own")
    pick = rng.choice(space, rows, replace=False)
    first, rest = pick // (len(prefixes) * len(trades)), pick % (len(prefixes) * len(trades))
    second, trade = rest // len(trades), rest % len(trades)
    return np.asarray("云州" + prefixes[first] + prefixes[second] + trades[trade] + "有限公司", dtype=object)


def _record_numbers(letter: str, rows: int) -> _Array:
    return np.array([f"{letter}{index:08d}" for index in range(rows)], dtype=object)


def _dates(rng: np.random.Generator, rows: int, as_of: date) -> tuple[_Array, _Array]:
    """Return when rows were entered and last changed; the latest change is on ``as_of``."""
    last = np.datetime64(as_of)
    updated = last - rng.integers(0, 300, rows).astype("timedelta64[D]")
    updated[rng.integers(0, rows, max(1, rows // 100))] = last
    return updated - rng.integers(0, 4_000, rows).astype("timedelta64[D]"), updated


def _places(rng: np.random.Generator, rows: int, canaries: int, errors: Errors) -> dict[str, _Array]:
    """Choose rows, each for at most one purpose; a repeated number takes the row before it too."""
    # Every other row, so that a row and the one before it are never both chosen.
    free = rng.permutation(np.arange(1, rows, 2))
    chosen: dict[str, _Array] = {}
    start = 0
    for kind, count in {
        "canary": canaries,
        **{kind: round(rows * rate / 100_000) for kind, rate in errors.items()},
    }.items():
        chosen[kind] = np.sort(free[start : start + count])
        start += count
    return chosen


def _person_canary(columns: Mapping[str, _Array], row: int, index: int, seed: int) -> None:
    birth = date(1931, 1, 1) + timedelta(days=(seed * 31 + index) % 3_000)
    # Sequence 900 and above is used by canaries alone, so no other row has this number.
    text = f"530102{birth:%Y%m%d}{901 + 2 * (index % 45)}"
    digits = np.frombuffer(text.encode(), dtype=np.uint8)[None, :] - 48
    columns["name"][row] = f"金丝雀{'甲乙丙丁戊己庚辛壬癸'[index % 10]}{seed % 1000:03d}"
    columns["id_no"][row] = text + chr(id_check_characters(digits)[0])
    columns["sex"][row] = "男"
    columns["birth_date"][row] = np.datetime64(birth)
    columns["mobile"][row] = f"199{seed % 10_000:04d}{7_000 + index:04d}"


def _employment(rng: np.random.Generator, rows: int, employers: Sequence[str]) -> dict[str, _Array]:
    firms = np.array(employers, dtype=object)
    number = np.char.add("u", rng.permutation(rows).astype("U9"))
    return {
        "employer": firms[rng.integers(0, len(firms), rows)],
        "income": np.round(rng.lognormal(8.6, 0.6, rows), 2),
        "insured_months": rng.integers(0, 481, rows),
        "email": np.char.add(number, "@example.com").astype(object),
    }


def _wrong_last(values: _Array, where: _Array, alphabet: str) -> None:
    for row in where:
        text = str(values[row])
        values[row] = text[:-1] + alphabet[(alphabet.index(text[-1]) + 1) % len(alphabet)]


def _break_person(columns: Mapping[str, _Array], kind: str, where: _Array, district: str) -> None:
    match kind:
        case "id_check_character":
            _wrong_last(columns["id_no"], where, "0123456789X")
        case "birth_date_differs":
            columns["birth_date"][where] += np.timedelta64(1, "D")
        case "sex_differs":
            columns["sex"][where] = np.where(columns["sex"][where] == "男", "女", "男")
        case "mobile_format":
            columns["mobile"][where] = np.array(
                ["2" + str(text)[1:] for text in columns["mobile"][where]], dtype=object
            )
        case "mobile_missing":
            columns["mobile"][where] = None
        case "employer_unknown":
            # Valid in itself, of an authority that registers no enterprise: in no register.
            columns["employer"][where] = _foreign_usccs(len(where))
        case "income_negative":
            columns["income"][where] = -columns["income"][where]
        case "email_format":
            columns["email"][where] = np.array(
                [str(text).replace("@", "") for text in columns["email"][where]], dtype=object
            )
        case _:
            _break_any(columns, kind, where, district, "registered_on")


def _foreign_usccs(count: int) -> _Array:
    values = np.zeros((count, 17), dtype=np.uint8)
    values[:, :2] = (1, 1)
    values[:, 8:17] = _digits(np.arange(count), 9)
    alphabet = np.frombuffer(USCC_ALPHABET.encode(), dtype=np.uint8)
    return _text(np.hstack([alphabet[values], alphabet[uscc_check_values(values)][:, None]]))


def _break_enterprise(columns: Mapping[str, _Array], kind: str, where: _Array, district: str) -> None:
    match kind:
        case "uscc_check_character":
            _wrong_last(columns["uscc"], where, USCC_ALPHABET)
        case "uscc_format":
            columns["uscc"][where] = np.array([str(text)[:15] for text in columns["uscc"][where]], dtype=object)
        case "capital_negative":
            columns["capital"][where] = -1.0
        case _:
            _break_any(columns, kind, where, district, "established_on")


def _break_any(columns: Mapping[str, _Array], kind: str, where: _Array, district: str, start: str) -> None:
    match kind:
        case "name_missing":
            columns["name"][where] = None
        case "division_differs":
            columns["division"][where] = next(code for name, code in DISTRICTS.items() if name != district)
        case "record_no_repeated":
            columns["record_no"][where] = columns["record_no"][where - 1]
        case _:
            columns["updated_on"][where] = columns[start][where] - np.timedelta64(3, "D")


def _finish(
    path: Path, columns: Mapping[str, _Array], encoding: str, places: Mapping[str, _Array], canary_rows: _Array
) -> Planted:
    import pyarrow as pa

    table = pa.table({name: _arrow(values) for name, values in columns.items()})
    write_table(path, table, encoding=encoding)
    canaries = tuple({name: str(values[row]) for name, values in columns.items()} for row in canary_rows)
    errors = {kind: tuple(int(row) for row in where) for kind, where in places.items()}
    return Planted(table.num_rows, errors, canaries, tuple(int(row) for row in canary_rows))


def _arrow(values: _Array) -> Any:
    import pyarrow as pa

    if values.dtype == object:
        return pa.array(values, type=pa.string(), from_pandas=True)
    return pa.array(values.astype("datetime64[D]")) if values.dtype.kind == "M" else pa.array(values)


def write_table(path: Path, table: Any, *, encoding: str = "utf-8") -> None:
    """Write an Arrow table as CSV or Parquet, by the suffix; whole or not at all.

    Raises:
        SampleError: another suffix.
    """
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        pq.write_table(table, part, compression="zstd")
    elif path.suffix == ".csv":
        import pyarrow.csv as pc

        pc.write_csv(table, part, pc.WriteOptions(quoting_style="needed"))
        if encoding != "utf-8":
            part.write_bytes(part.read_text(encoding="utf-8").encode(encoding))
    else:
        raise SampleError(f"expected a .csv or .parquet path, got {path.suffix or 'no suffix'}")
    part.replace(path)
