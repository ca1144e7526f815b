"""The list of checks: stable codes, titles in both languages, outcome and evidence."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from products.errors import ProductError

Outcome = Literal["ok", "failed", "warning", "skipped"]
_T = TypeVar("_T")

TITLES: dict[str, tuple[int, str, str]] = {
    "package.tree": (1, "目录树只有普通文件，在限额之内", "the tree holds plain files within the limits"),
    "package.layout": (1, "每个文件都在包格式规定的位置", "every file has its place in the package format"),
    "package.statements": (1, "声明信封规范、可读", "envelopes are canonical and can be read"),
    "trust.root": (2, "首个根元数据与预先掌握的摘要一致", "the first root is the one pinned beforehand"),
    "trust.metadata": (2, "信任数据的签名链成立", "the chain of trust metadata holds"),
    "trust.current": (2, "签发时信任数据在有效期内", "the trust data was current when it was released"),
    "signature.actor": (3, "每个签名者都在名册中", "every signer is in the agency's list"),
    "signature.valid": (3, "每个签名有效", "every signature verifies"),
    "signature.sm2": (3, "国密第二签名有效，规定时齐全", "second signatures with SM2 hold, and are there if required"),
    "log.inclusion": (3, "每个签名都在日志中", "every signature is in the log"),
    "log.witness": (3, "检查点有日志签名和见证人法定数", "log and a quorum of witnesses signed each checkpoint"),
    "key.window": (3, "签名时密钥有效", "each key counted when it signed"),
    "release.one": (4, "恰有一份发布声明", "exactly one release statement"),
    "release.policy": (4, "发布声明引用的规则就是机构签发的规则", "the release names the agency's policy"),
    "release.files": (5, "数据文件与发布声明逐一相符", "the files of data/ are those of the release"),
    "release.manifest": (5, "两份清单的摘要与发布声明一致", "both manifests are those of the release"),
    "bag.tags": (5, "标签文件逐字节正确", "the bag's tag files are right to the byte"),
    "bag.tagmanifest": (5, "标签清单逐字节正确", "the tag manifest is right to the byte"),
    "certificate.derived": (5, "登记凭证与声明一致", "the certificate says what the statements say"),
    "interop.bundles": (5, "派生的 sigstore 包与声明一致", "the sigstore bundles say what the envelopes say"),
    "interop.signatures": (
        5,
        "供他人工具使用的第二签名与发布一致",
        "second signatures for other tools fit the release",
    ),
    "release.attestations": (6, "声明齐全，且只有发布声明列出的声明", "the statements are those the release lists"),
    "release.required": (6, "该形态必需的声明类型齐全", "all statement types this form needs are there"),
    "release.signers": (6, "每份声明的签名者达到规定", "each statement has the signers it needs"),
    "rule.resources": (7, "使用的资源与字段在授权和资源声明之内", "used resources and columns are granted and stated"),
    "rule.purpose": (7, "场景、用途、任务、形态与授权一致", "scenario, purpose, task and form are the grant's"),
    "rule.window": (7, "时间顺序成立且在授权期内", "times are in order and within the grant's window"),
    "rule.quality": (7, "资源质量达到授权门槛且报告一致", "resource quality meets the grant, reports match"),
    "rule.budget": (7, "隐私预算与次数收支相符且未超限", "budgets and uses add up within the grant"),
    "rule.participants": (7, "每个参与节点都有运行声明", "every participant has its run statement"),
    "rule.build": (7, "构建声明覆盖产品文件并引用全部来源", "the build covers the product and names its sources"),
    "rule.privacy": (7, "隐私核算覆盖产品文件并与运行一致", "the privacy account covers the product and its runs"),
    "rule.review": (7, "两名外部评审覆盖全部文件并逐点确认", "two outside reviews cover all files and points"),
    "rule.registration": (7, "登记编码校验位与有效期成立", "registration codes and terms hold"),
    "rule.registrars": (7, "两名登记人最后签署", "two registrars signed, and last"),
    "rule.previous": (
        7,
        "上一版本的发布在日志中且由登记人签署",
        "the version before is in the log, signed by registrars",
    ),
    "metadata.derived": (7, "元数据与声明一致", "the metadata says what the statements say"),
    "release.standing": (
        7,
        "发布时未被暂停、撤销或替代",
        "nothing was suspended, revoked or superseded at the release",
    ),
    "rule.form": (7, "产品文件符合其形态", "the product's files fit its form"),
    "rule.shapes": (8, "机构签发的形状规则由第二引擎核对一致", "the agency's shapes hold in a second engine, if asked"),
    "status.trust": (9, "有新的信任数据", "fresh trust data is at hand"),
    "status.keys": (9, "按最新名册密钥仍然有效", "by the latest list the keys still count"),
    "status.force": (9, "未被暂停、撤销或替代", "nothing is suspended, revoked or superseded"),
    "status.term": (9, "在有效期内", "within its term"),
}
"""Step of PROVENANCE 3.5, Chinese and English title of every check. A code is never reused."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a report.

    Attributes:
        code: stable name of the rule.
        step: step of the procedure, 1 to 9.
        title_zh, title_en: what was checked.
        outcome: ``ok``, ``failed``, ``warning`` (does not fail, but forbids exit 0) or ``skipped``
            (what it needs did not hold).
        evidence: what was found.
    """

    code: str
    step: int
    title_zh: str
    title_en: str
    outcome: Outcome
    evidence: str


@dataclass
class CheckList:
    """Collects checks in order; a later failure of the same code is added to its evidence."""

    _problems: dict[str, list[str]] = field(default_factory=dict)
    _evidence: dict[str, str] = field(default_factory=dict)
    _warnings: set[str] = field(default_factory=set)
    _skipped: set[str] = field(default_factory=set)

    def passed(self, code: str, evidence: str) -> None:
        """Record that a check held."""
        self._evidence[code] = evidence

    def failed(self, code: str, problems: Sequence[str]) -> None:
        """Record problems; none of them is a pass without evidence."""
        if problems:
            self._problems.setdefault(code, []).extend(problems)

    def warned(self, code: str, evidence: str) -> None:
        """Record what does not make the package invalid, but leaves a question open."""
        self._warnings.add(code)
        self._evidence[code] = evidence

    def skipped(self, code: str, evidence: str) -> None:
        """Record a check that nobody asked for."""
        self._skipped.add(code)
        self._evidence[code] = evidence

    def found(self, code: str, problems: Sequence[str], evidence: str) -> bool:
        """Record the outcome of a check and return whether it held."""
        if problems:
            self.failed(code, problems)
        else:
            self.passed(code, evidence)
        return not problems

    @contextmanager
    def guard(self, code: str) -> Iterator[None]:
        """Turn a ``ProductError`` of the block into a failure of ``code`` and go on."""
        try:
            yield
        except ProductError as error:
            self.failed(code, [str(error)])

    def attempt(self, code: str, action: Callable[[], _T]) -> _T | None:
        """Return what ``action`` returns, or None with a failure of ``code``."""
        with self.guard(code):
            return action()
        return None

    @property
    def has_failed(self) -> bool:
        """Whether any check failed."""
        return bool(self._problems)

    @property
    def has_warned(self) -> bool:
        """Whether any check left a question open."""
        return bool(self._warnings)

    def checks(self) -> tuple[Check, ...]:
        """Return every check of the procedure in order, reached or not."""
        return tuple(self._check(code) for code in TITLES)

    def _check(self, code: str) -> Check:
        step, title_zh, title_en = TITLES[code]
        outcome: Outcome = "skipped"
        evidence = "not reached: an earlier check did not hold"
        if code in self._problems:
            problems = self._problems[code]
            more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
            outcome, evidence = "failed", "; ".join(problems[:5]) + more
        elif code in self._skipped:
            evidence = self._evidence[code]
        elif code in self._evidence:
            outcome, evidence = ("warning" if code in self._warnings else "ok"), self._evidence[code]
        return Check(code, step, title_zh, title_en, outcome, evidence)
