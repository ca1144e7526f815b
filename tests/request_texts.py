REQUEST = """
scenario = "clinic-risk"
scenario_title = "门诊风险筛查"
agreement = "agr-2026-1"
purpose = "risk-screening"
product_form = "model"
need = "screening"
value = "earlier treatment"
goals = ["a model"]
tasks = ["linear.secagg"]
uses_max = 4
days = 90
[thresholds]
rows_min = 30
contributors_min = 3
cell_min = 5
round_base = 5
quality_score_min = 8000
[budget]
unit = "session"
total = 4
[justifications]
age = "risk rises with age"
target = "what is learnt"
"""
PARTY = """
[[parties]]
node = "node-{0}"
[[parties.resources]]
resource = "res.{0}.clinic"
version = 1
columns = ["age", "target", "name"]
"""
AGREEMENT = """
agreement_id = "agr-2026-1"
title = "公共数据资源授权运营协议"
operator = "operator"
agency = "data-bureau"
mode = "overall"
resources = ["res.east.clinic", "res.west.clinic", "res.north.clinic"]
product_forms = ["model", "report"]
not_before = 2026-01-01T00:00:00Z
not_after = 2027-12-31T00:00:00Z
"""


def request_text(*, districts=("east", "west", "north"), **changes):
    text = REQUEST + "".join(PARTY.format(name) for name in districts)
    for before, after in changes.pop("replace", {}).items():
        assert before in text
        text = text.replace(before, after)
    return text
