"""Sample tables: equal seeds give equal bytes, codes are valid, every error is listed."""

import csv
from datetime import date

import pytest
from stdnum.cn import uscc

from nodes.catalogue_entries import read_entry
from nodes.sample.errors import SampleError
from nodes.sample.kits import KITS, kit_suite, write_kit
from nodes.sample.registers import (
    DISTRICTS,
    PERSON_ERRORS,
    write_enterprise_register,
    write_linked_registers,
    write_person_register,
)
from nodes.sample.split import split_table
from quality.suite import load

AS_OF = date(2026, 3, 1)


def rows(path, encoding="utf-8"):
    with path.open(encoding=encoding, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    "wrong", [{"rows": 5}, {"district": "海淀区"}, {"errors": {"typo": 1}}, {"errors": {"name_missing": 60_000}}]
)
def test_impossible_registers_are_refused(tmp_path, wrong):
    with pytest.raises(SampleError):
        write_person_register(tmp_path / "p.csv", **{"rows": 100, "seed": 1, "as_of": AS_OF, **wrong})


def test_another_format_is_refused(tmp_path):
    with pytest.raises(SampleError, match=r"\.xlsx"):
        write_person_register(tmp_path / "p.xlsx", 100, seed=1, as_of=AS_OF)
    assert not list(tmp_path.iterdir())


def test_equal_seeds_give_equal_bytes_and_others_other_people(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_person_register(tmp_path / f"{name}.csv", 300, seed=seed, as_of=AS_OF)
    a, b, c = ((tmp_path / f"{name}.csv").read_bytes() for name in "abc")
    assert a == b
    first, third = rows(tmp_path / "a.csv"), rows(tmp_path / "c.csv")
    assert not {row["id_no"] for row in first} & {row["id_no"] for row in third}
    assert a != c


def test_a_clean_register_agrees_in_itself(tmp_path):
    write_person_register(tmp_path / "p.csv", 500, seed=1, as_of=AS_OF, errors={}, district="云东区")
    people = rows(tmp_path / "p.csv")
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    for row in people:
        number = row["id_no"]
        assert "10X98765432"[sum(int(d) * w for d, w in zip(number[:17], weights, strict=True)) % 11] == number[17]
        assert number[6:14] == row["birth_date"].replace("-", "")
        assert row["sex"] == ("男" if int(number[16]) % 2 else "女")
        assert DISTRICTS[row["district"]] == row["division"]
    assert len({row["id_no"] for row in people}) == 500
    assert max(row["updated_on"] for row in people) == "2026-03-01"


def test_credit_codes_are_valid_to_a_library_of_others(tmp_path):
    write_enterprise_register(tmp_path / "e.csv", 300, seed=1, as_of=AS_OF, errors={}, encoding="gb18030")
    firms = rows(tmp_path / "e.csv", "gb18030")
    # The region of the invented districts is unknown to the library, the check digit is not.
    for row in firms:
        assert uscc.calc_check_digit(row["uscc"][:-1]) == row["uscc"][-1]
    assert len({row["uscc"] for row in firms}) == len({row["name"] for row in firms}) == 300


def test_listed_errors_are_where_the_list_says(tmp_path):
    planted = write_person_register(tmp_path / "p.csv", 2_000, seed=1, as_of=AS_OF)
    people = rows(tmp_path / "p.csv")
    assert set(planted.errors) == set(PERSON_ERRORS)
    listed = [row for where in planted.errors.values() for row in where]
    assert len(listed) == len(set(listed))
    assert {index for index, row in enumerate(people) if not row["name"]} == set(planted.errors["name_missing"])
    wrong = {index for index, row in enumerate(people) if row["mobile"] and row["mobile"][0] != "1"}
    assert wrong == set(planted.errors["mobile_format"])


def test_canaries_are_valid_listed_and_not_in_the_repr(tmp_path):
    planted = write_person_register(tmp_path / "p.csv", 300, seed=1, as_of=AS_OF, canaries=3)
    people = rows(tmp_path / "p.csv")
    assert [people[row]["id_no"] for row in planted.canary_rows] == [canary["id_no"] for canary in planted.canaries]
    assert all(canary["name"].startswith("金丝雀") for canary in planted.canaries)
    assert len({canary["id_no"] for canary in planted.canaries}) == 3
    assert planted.canaries[0]["id_no"] not in repr(planted)
    planted.write(tmp_path / "planted.json")
    assert planted.canaries[0]["id_no"] in (tmp_path / "planted.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(("table", "total"), [("breast_cancer", 569), ("diabetes", 442)])
def test_every_row_of_a_real_table_goes_to_one_department(tmp_path, table, total):
    paths = split_table(table, ["node-east", "node-west", "node-north"], tmp_path, seed=3)
    parts = [rows(path) for path in paths.values()]
    assert sum(map(len, parts)) == total
    assert min(map(len, parts)) >= 30
    everything = [tuple(value for key, value in row.items() if key != "patient_no") for part in parts for row in part]
    assert len(set(everything)) == len(everything)
    if table == "breast_cancer":
        shares = [sum(row["malignant"] == "1" for row in part) / len(part) for part in parts]
        assert max(shares) - min(shares) > 0.05
        assert sum(row["malignant"] == "1" for part in parts for row in part) == 212


def test_a_split_over_too_many_departments_is_refused(tmp_path):
    with pytest.raises(SampleError, match="departments"):
        split_table("diabetes", [f"node-{index}" for index in range(20)], tmp_path, seed=1)


@pytest.mark.parametrize("kit", list(KITS))
def test_a_kit_is_a_valid_catalogue_entry_and_suite(tmp_path, kit):
    entry_path, suite_path = write_kit(kit, tmp_path, resource="res.north.sample", owner="org.north", table="t.csv")
    entry, suite = read_entry(entry_path), load(suite_path)
    assert {column.name: column.type for column in entry.columns} == dict(suite.columns)
    assert suite == kit_suite(kit, name="res.north.sample")
    assert suite.sha256 == kit_suite(kit, name="res.north.sample").sha256
    assert any(rule.severity == "critical" for rule in suite.rules)
    assert {rule.indicator for rule in suite.rules} & {"0502"}


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_persons_of_linked_registers_work_for_enterprises_of_the_other_but_for_those_listed(tmp_path, suffix):
    planted = write_linked_registers(tmp_path, 2_000, 200, seed=4, as_of=AS_OF, suffix=suffix)
    if suffix == ".parquet":
        from pyarrow import parquet

        people = parquet.read_table(tmp_path / "persons.parquet").to_pylist()
        firms = parquet.read_table(tmp_path / "enterprises.parquet").to_pylist()
    else:
        people, firms = rows(tmp_path / "persons.csv"), rows(tmp_path / "enterprises.csv")
    known = {firm["uscc"] for firm in firms}
    unknown = tuple(index for index, person in enumerate(people) if person["employer"] not in known)
    assert unknown == planted["persons"].errors["employer_unknown"]
    assert len(unknown) == 6
    assert all(uscc.is_valid(person["employer"]) for person in people)
    assert len(people[0]) == 15
