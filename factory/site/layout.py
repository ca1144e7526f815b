"""Where everybody lives in an embedded deployment: one folder per party, and nobody reads another's keys.

<site>/agency  root/1..3  registrar-1  registrar-2  reviewer-1  reviewer-2  bank-yun
       operator/{hub,log,products,registry.db}  witness  nodes/node-…  run/  packages/
       secrets/<party>/passphrase
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Office:
    """A party that is no node.

    Attributes:
        id: actor id, also the name of its folder.
        organisation: the body it belongs to.
        title_zh, title_en: names for people.
        role: what it signs as.
    """

    id: str
    organisation: str
    title_zh: str
    title_en: str
    role: str


@dataclass(frozen=True, slots=True)
class Department:
    """A department with its node.

    Attributes:
        key: middle part of its catalogue ids.
        title_zh, title_en: names for people.
    """

    key: str
    title_zh: str
    title_en: str

    @property
    def node(self) -> str:
        """Actor id of its node."""
        return f"node-{self.key}"

    @property
    def organisation(self) -> str:
        """Its organisation id."""
        return f"org-{self.key}"


OPERATOR = Office("operator", "org-operator", "云州数据运营有限公司", "Yunzhou Data Operation Co.", "operator")
REGISTRARS = (
    Office("registrar-1", "org-agency", "云州市数据局登记员甲", "Registrar A, Yunzhou data bureau", "registrar"),
    Office("registrar-2", "org-agency", "云州市数据局登记员乙", "Registrar B, Yunzhou data bureau", "registrar"),
)
REVIEWERS = (
    Office("reviewer-1", "org-university", "云州大学评审人", "Reviewer, Yunzhou University", "reviewer"),
    Office(
        "reviewer-2", "org-institute", "省信息安全测评中心评审人", "Reviewer, provincial security institute", "reviewer"
    ),
)
CLIENT = Office("bank-yun", "org-bank", "云州银行", "Bank of Yunzhou", "application_unit")
AGENCY_TITLE = ("云州市数据局", "Yunzhou data bureau")

DEPARTMENTS = (
    Department("east", "云东区卫生健康局", "Health bureau of Yundong"),
    Department("west", "云西区卫生健康局", "Health bureau of Yunxi"),
    Department("north", "云北区政务服务局", "Government services bureau of Yunbei"),
)
HOSPITALS = (
    Department("east", "第一医院", "First hospital"),
    Department("west", "第二医院", "Second hospital"),
    Department("north", "第三医院", "Third hospital"),
    Department("south", "第四医院", "Fourth hospital"),
)


@dataclass(frozen=True, slots=True)
class Site:
    """The folder of a deployment and who takes part in it."""

    folder: Path
    departments: tuple[Department, ...] = DEPARTMENTS

    def home(self, actor: str) -> Path:
        """Return the home of a party that is no node."""
        return self.folder / actor

    def node(self, department: Department) -> Path:
        """Return the home of a department's node."""
        return self.folder / "nodes" / department.node

    @property
    def operator(self) -> Path:
        """Home of the operator."""
        return self.folder / OPERATOR.id

    @property
    def agency(self) -> Path:
        """Home of the agency."""
        return self.folder / "agency"

    @property
    def hub_settings(self) -> Path:
        """Settings of hub and relay."""
        return self.operator / "hub" / "hub.toml"

    def passphrase(self, party: str) -> Path:
        """The file with the passphrase of one party's keys; a real party keeps it on a device of its own."""
        return self.folder / "secrets" / party / "passphrase"

    @property
    def log(self) -> Path:
        """The transparency log."""
        return self.operator / "log"

    @property
    def run(self) -> Path:
        """Pids and logs of the processes."""
        return self.folder / "run"

    @property
    def packages(self) -> Path:
        """Released packages."""
        return self.folder / "packages"
