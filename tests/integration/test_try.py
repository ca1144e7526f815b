"""``shufang try``: every pipeline on local files, with real processes, and nothing left behind."""

import csv
import hashlib
import json
import math
import random
import signal
import subprocess
import tomllib

import numpy as np
import pytest

from factory.errors import FactoryError
from factory.trial import run
from tests import trials

pytestmark = pytest.mark.xdist_group("trials")


@pytest.fixture(scope="module")
def clinic(tmp_path_factory):
    return trials.clinic(tmp_path_factory.mktemp("clinic"))


@pytest.fixture(scope="module")
def diabetes(tmp_path_factory):
    return trials.diabetes(tmp_path_factory.mktemp("diabetes"))


@pytest.fixture(scope="module")
def model(clinic):
    return run.run(run.plan(trials.EXAMPLES / "model.toml", clinic))


@pytest.fixture(autouse=True)
def _temporary(tmp_path, monkeypatch):
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield
    assert list(folder.iterdir()) == []


def rows_of(tables):
    found = []
    for path in tables.values():
        with path.open(encoding="utf-8", newline="") as stream:
            found += list(csv.DictReader(stream))
    return found


def refused(recipe, tables):
    with pytest.raises(FactoryError) as caught:
        run.run(run.plan(recipe, tables))
    return str(caught.value)


def test_a_column_that_the_table_lacks_is_named_with_those_it_has(clinic, tmp_path):
    recipe = trials.changed("model.toml", tmp_path, ('"mean_texture"', '"mean_colour"'))
    message = refused(recipe, clinic)
    assert "expected the columns mean_colour in east.csv, got patient_no, mean_radius" in message
    assert "(node.catalogue)" in message


@pytest.mark.slow
def test_an_empty_table_is_refused_by_its_own_node(clinic, tmp_path):
    empty = tmp_path / "empty.csv"
    empty.write_text(clinic["west"].read_text("utf-8").splitlines()[0] + "\n")
    message = refused(trials.EXAMPLES / "model.toml", {**clinic, "west": empty})
    assert message.startswith("west: expected at least one row in ")
    assert message.endswith("(node.table_empty)")


def test_bytes_in_no_known_encoding_are_refused(clinic, tmp_path):
    broken = tmp_path / "broken.csv"
    broken.write_bytes(b"mean_radius,malignant\n1,\xff\xff\xff\n")
    message = refused(trials.EXAMPLES / "model.toml", {**clinic, "north": broken})
    assert message.startswith("north: expected broken.csv as CSV in UTF-8 or GB18030")
    assert message.endswith("(node.table_encoding)")


@pytest.mark.slow
def test_a_table_below_the_fewest_rows_is_refused_under_the_grant(clinic, tmp_path):
    recipe = trials.changed(
        "model.toml", tmp_path, ("rows_min = 30", "rows_min = 400"), ("contributors_min = 2", "contributors_min = 3")
    )
    assert "resource.rows" in refused(recipe, clinic)


@pytest.mark.requirement("PC-TECH")
def test_the_model_is_the_one_of_the_pooled_rows(model, clinic):
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    from nodes.tasks.linear_rows import split

    parameters = tomllib.loads((trials.EXAMPLES / "model.toml").read_text("utf-8"))["parameters"]
    train, test = [], []
    for party, path in clinic.items():
        rows = rows_of({party: path})
        held = split(len(rows), party, seed=7, test_permille=250)
        table = np.array([[float(row[name]) for name in (*parameters["features"], "malignant")] for row in rows])
        train.append(table[~held])
        test.append(table[held])
    train, test = np.vstack(train), np.vstack(test)
    means, scales = train[:, :-1].mean(axis=0), train[:, :-1].std(axis=0)
    pooled = LogisticRegression(C=1 / (0.01 * len(train)), tol=1e-10, max_iter=1000)
    pooled.fit((train[:, :-1] - means) / scales, train[:, -1])
    document = json.loads(model.built.files["model.json"])
    weights = [float.fromhex(item["weight"]) for item in document["features"]]
    # Training stops when no weight moves by 1e-4 in a round; what is left to go is at most some of those steps.
    assert np.allclose(weights, pooled.coef_[0], rtol=0, atol=2e-3)
    assert math.isclose(float.fromhex(document["intercept"]), pooled.intercept_[0], abs_tol=2e-3)
    scores = pooled.decision_function((test[:, :-1] - means) / scales)
    positive, negative = scores[test[:, -1] == 1], scores[test[:, -1] == 0]
    exact = float((positive[:, None] > negative[None, :]).mean())
    # The protocol opens histograms of 64 bins, so its figure is a range.
    assert model.built.metrics["auc_low_test_micro"] <= exact * 1e6 + 500
    assert model.built.metrics["auc_high_test_micro"] >= exact * 1e6 - 500


def test_the_cost_of_every_party_is_stated_in_the_shape_of_all_commands(model):
    printed = model.as_json()
    assert set(printed) == {"product", "metrics", "cost"}
    cost = printed["cost"]
    assert set(cost) == {"cpu_s", "wall_s", "bytes_sent", "peak_rss_mb", "parties"}
    assert set(cost["parties"]) == {"east", "west", "north", "operator", "relay"}
    for name in ("east", "west", "north", "operator"):
        party = cost["parties"][name]
        assert party["cpu_s"] > 0
        assert party["bytes_sent"] > 1000
        assert party["peak_rss_mb"] > 20
    assert cost["bytes_sent"] == sum(party["bytes_sent"] for party in cost["parties"].values())


@pytest.mark.slow
def test_the_same_tables_and_seed_give_the_same_product(model, clinic):
    again = run.run(run.plan(trials.EXAMPLES / "model.toml", clinic))
    assert again.product_sha256 == model.product_sha256
    assert again.built.sessions != model.built.sessions


@pytest.mark.slow
def test_the_report_is_the_rounded_and_suppressed_count_of_the_pooled_rows(diabetes, tmp_path):
    recipe = trials.changed("report.toml", tmp_path, ("edges = [24, 28]", "edges = [19, 38]"))
    tried = run.run(run.plan(recipe, diabetes), out=tmp_path / "product")
    tables = {item["name"]: item for item in json.loads((tmp_path / "product" / "tables.json").read_bytes())["tables"]}
    bands = ["<24", "24-28", ">=28"]
    pooled = {}
    totals = {}
    for row in rows_of(diabetes):
        band = bands[(float(row["bmi"]) >= 19) + (float(row["bmi"]) >= 38)]
        pooled[row["sex"], band] = pooled.get((row["sex"], band), 0) + 1
        count, total = totals.get(band, (0, 0))
        totals[band] = (count + 1, total + round(float(row["progression"]) * 10))
    assert min(pooled.values()) < 10 < max(pooled.values())
    shown = {tuple(cell["at"]): cell for cell in tables["patients"]["cells"]}
    for place, count in pooled.items():
        if count < 10:
            assert shown[place]["value"] is None
        elif shown[place]["value"] is not None:
            assert shown[place]["value"] % 5 == 0
            assert abs(shown[place]["value"] - count) < 5
    assert abs(shown["*", "*"]["value"] - sum(pooled.values())) < 5
    means = {cell["at"][0]: cell["value"] for cell in tables["progression"]["cells"]}
    count, total = totals["24-28"]
    assert means["24-28"] in (None, (2 * total + count) // (2 * count))
    assert tried.built.metrics["suppressed"] > 0
    assert tried.built.participants == ("east", "north", "west")


def test_the_application_unit_alone_gets_the_answers(tmp_path):
    tables = trials.persons(tmp_path)
    tried = run.run(run.plan(trials.EXAMPLES / "verification.toml", tables), out=tmp_path / "product")
    lines = (tmp_path / "product" / run.ANSWERS).read_text("ascii").splitlines()
    assert [json.loads(line)["match"] for line in lines] == [True] * 4 + [False] * 3
    assert tried.built.metrics["asked"] == 7
    assert "matches" not in json.dumps(tried.as_json())
    assert tried.cost.parties["bank"].bytes_sent > 7 * 32
    assert sorted(tried.built.files) == ["method.json", "method.md", "openapi.json"]


@pytest.mark.slow
def test_a_register_in_gb18030_is_read_as_such(tmp_path):
    tables = trials.persons(tmp_path, encoding="gb18030")
    run.run(run.plan(trials.EXAMPLES / "verification.toml", tables), out=tmp_path / "product")
    lines = (tmp_path / "product" / run.ANSWERS).read_text("ascii").splitlines()
    assert sum(json.loads(line)["match"] for line in lines) == 4


@pytest.mark.slow
def test_a_question_without_a_field_is_the_application_units_error(tmp_path):
    tables = trials.persons(tmp_path)
    tables["client"].write_text('{"name": "someone"}\n')
    message = refused(trials.EXAMPLES / "verification.toml", tables)
    assert message == "bank: expected the fields id_no in every record (client.record)"


@pytest.mark.slow
def test_an_interrupted_command_leaves_neither_process_nor_file(clinic, tmp_path):
    out = tmp_path / "product"
    started = subprocess.Popen(
        trials.command(trials.EXAMPLES / "model.toml", clinic, "--out", str(out)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=trials.ROOT,
        env=trials.environment(tmp_path / "temporary"),
    )
    children = []
    try:
        for line in started.stderr:
            if "means" in line:
                children = trials.children_of(started.pid)
                started.send_signal(signal.SIGINT)
                break
        _, said = started.communicate(timeout=30)
    finally:
        if started.poll() is None:
            started.kill()
            started.wait()
    assert started.returncode == 130
    assert said.splitlines()[-1].endswith("nothing is left behind")
    assert "Traceback" not in said
    assert len(children) == 4
    assert [pid for pid in children if trials.is_alive(pid)] == []
    assert list((tmp_path / "temporary").iterdir()) == []
    assert not out.exists()


def test_the_command_prints_one_object_and_says_what_is_wrong_with_its_code(clinic, tmp_path):
    done = subprocess.run(
        trials.command(trials.EXAMPLES / "model.toml", {"east": clinic["east"]}, "--json"),
        capture_output=True,
        text=True,
        check=False,
        cwd=trials.ROOT,
        env=trials.environment(tmp_path / "temporary"),
        timeout=60,
    )
    assert done.returncode == 1
    assert json.loads(done.stdout) == {
        "error": "trial.table",
        "message": "expected a file for every party; add --table west=FILE --table north=FILE",
    }
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.slow
def test_statistics_of_every_kind_come_from_one_trial_with_pages_tables_and_evidence(diabetes, tmp_path):
    tried = run.run(run.plan(trials.EXAMPLES / "statistics.toml", diabetes), out=tmp_path / "product")
    rows = rows_of(diabetes)
    studies = {
        item["name"]: item for item in json.loads((tmp_path / "product" / "tables.json").read_bytes())["studies"]
    }
    assert {item["state"] for item in studies.values()} == {"published"}
    progression = np.array([float(row["progression"]) for row in rows])
    median = next(row for row in studies["progression-quantiles"]["rows"] if row["permille"] == 500)
    assert abs(float(median["value"]) - np.quantile(progression, 0.5, method="inverted_cdf")) <= 0.5
    design = np.array([[1.0, float(row["bmi"]), float(row["bp"])] for row in rows])
    pooled = np.linalg.lstsq(design, progression, rcond=None)[0]
    found = [float(row["estimate"]) for row in studies["progression-line"]["rows"]]
    assert found == pytest.approx(list(pooled), rel=1e-3)
    shown = json.loads((tmp_path / "product" / "report.json").read_bytes())
    assert {table["name"]: table["unit"]["en"] for table in shown["tables"]}["pressure"] == "mmHg"
    evidence = json.loads((tmp_path / "product" / "evidence.json").read_bytes())
    assert evidence["rules"]["name"] == "acro"
    assert evidence["tables_sha256"] == hashlib.sha256((tmp_path / "product" / "tables.json").read_bytes()).hexdigest()
    page = (tmp_path / "product" / "report.html").read_text("utf-8")
    assert page.count("<svg") == 3
    assert (tmp_path / "product" / "report.pdf").read_bytes().startswith(b"%PDF")
    assert tried.built.metrics["tables"] == 7


@pytest.mark.slow
def test_an_index_ranks_entities_and_no_score_of_a_domain_is_in_its_files(tmp_path):
    rng = random.Random(4)
    recipe = (trials.EXAMPLES / "index.toml").read_text("utf-8")
    districts = tomllib.loads(recipe)["parameters"]["entities"]
    columns = {
        "market": ("new_firms", "abnormal_permille"),
        "science": ("hightech", "gazelles", "sme"),
        "tax": ("fine",),
    }
    tables = {}
    for party, names in columns.items():
        tables[party] = tmp_path / f"{party}.csv"
        lines = [("district", *names)]
        lines += [(place, *(rng.randrange(10_000, 99_999) for _ in names)) for place in districts]
        with tables[party].open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(lines)
    out = tmp_path / "product"
    run.run(run.plan(trials.EXAMPLES / "index.toml", tables), out=out)
    rows = json.loads((out / "index.json").read_bytes())["rows"]
    assert sorted(row["rank"] for row in rows) == list(range(1, len(districts) + 1))
    sensitivity = json.loads((out / "sensitivity.json").read_bytes())["domains"]
    assert [item["weight_permille"] for item in sensitivity] == [400, 400, 200]
    values = {
        line.split(",")[-1].strip() for path in tables.values() for line in path.read_text("utf-8").splitlines()[1:]
    }
    for path in out.iterdir():
        if path.suffix != ".pdf":
            assert not [value for value in values if value in path.read_text("utf-8")], path.name
    assert {path.name for path in out.iterdir()} >= {"index.csv", "index.json", "method.json", "sensitivity.json"}
