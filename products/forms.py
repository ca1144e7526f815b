"""The forms a product may take and the predicate types of its statements."""

from typing import Literal, get_args

Form = Literal["model", "verification", "report", "index", "dataset", "interface", "service", "component", "tool"]
"""What a product is: 数据模型, 数据核验, 数据报告, 评价指数, 数据集, 数据接口, 数据服务, 数据组件, 数据工具."""

FORMS: tuple[Form, ...] = get_args(Form)

FORM_TITLES: dict[Form, tuple[str, str]] = {
    "model": ("数据模型", "data model"),
    "verification": ("数据核验", "verification"),
    "report": ("数据报告", "data report"),
    "index": ("评价指数", "evaluation index"),
    "dataset": ("数据集", "data set"),
    "interface": ("数据接口", "data interface"),
    "service": ("数据服务", "data service"),
    "component": ("数据组件", "data component"),
    "tool": ("数据工具", "data tool"),
}
"""Chinese and English title of each form.

Source: GLOSSARY of the regulations, terms 69 to 75."""

NS = "urn:shufang:predicate"
RESOURCE = f"{NS}/data-resource/v1"
GRANT = f"{NS}/authorization-grant/v1"
NODE_RUN = f"{NS}/node-run/v1"
BUILD = "https://slsa.dev/provenance/v1"
PRIVACY = f"{NS}/privacy-accounting/v1"
REVIEW = "https://in-toto.io/attestation/svr/v0.2"
RELEASE = f"{NS}/product-release/v1"
STATUS_CHANGE = f"{NS}/status-change/v1"
KEY_EVENT = f"{NS}/key-event/v1"

LINKED_TYPES = (RESOURCE, GRANT, NODE_RUN, BUILD, PRIVACY, REVIEW)
"""Types of the statements that a release names; the release itself is the last one."""
