"""The compliance matrix as one page, Chinese first; it loads nothing and runs no script."""

from factory.law.compliance import Matrix, Status
from factory.law.profile import Layer

WORDS: dict[Status, str] = {
    "passing": "已验证",
    "failing": "未通过",
    "not_run": "未运行",
    "not_yet": "尚无",
    "impossible": "无法由软件满足",
}
_ENGLISH: dict[Status, str] = {
    "passing": "passing",
    "failing": "failing",
    "not_run": "not run",
    "not_yet": "not yet: no test",
    "impossible": "impossible for software",
}
_MARKS = {"passed": "✓", "failed": "✗", "skipped": "跳过", "not_run": "未运行"}

CAPABILITIES = {
    "catalogue": "资源目录", "classification": "分类分级", "data-supply": "数据供给", "quality-monitoring": "质量监测",
    "quality-rectification": "质量整改", "objection-handling": "异议处理", "authorisation-plan": "实施方案",
    "announcement": "发布公告", "application": "申报", "review": "评审遴选", "publicity-period": "公示",
    "agreement": "授权协议", "filing": "备案", "data-request": "用数申请", "least-necessary": "最小必要",
    "node-policy": "节点策略", "consent": "同意", "cross-border": "数据出境", "privacy-computing": "隐私计算",
    "raw-data-containment": "原始数据不出域", "anti-reconstruction": "防还原", "product-review": "产品审核",
    "pre-release-evaluation": "上市前评估",
    "registration": "登记", "provenance": "溯源", "release": "发布",
    "serving-metering": "服务与计量", "downstream-control": "使用管控", "feedback": "反馈", "pricing": "定价",
    "cost-accounting": "成本核算", "revenue-sharing": "收益分配", "contribution-tracing": "贡献计量",
    "audit-log": "审计日志", "log-retention": "日志留存",
    "monitoring-alert": "监测预警", "suspension": "暂停与撤销",
    "exit-deletion": "退出与删除", "incident-response": "事件响应", "disclosure": "信息披露",
    "annual-report": "年度报告",
    "assessment-scoring": "评估考核", "inspection": "监督检查", "platform-security": "平台安全", "personnel": "人员",
    "jurisdiction-profile": "辖区规则", "institutional": "制度",
}  # fmt: skip


def page(found: Matrix, profile: Layer | None) -> str:
    """Return the page."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    groups = []
    for capability, title in CAPABILITIES.items():
        rows = [row for row in found.rows if row.requirement.capability == capability]
        rows = sorted(rows, key=lambda row: row.requirement.priority != "core")
        if rows:
            passing = sum(row.status == "passing" for row in rows)
            counted = {"passing": passing, "total": len(rows)}
            groups.append({"name": capability, "title_zh": title, "rows": rows, **counted})
    whose = f"{profile.head['name_zh']}" if profile else ""
    environment = Environment(
        loader=PackageLoader("factory.law"), undefined=StrictUndefined, autoescape=True, trim_blocks=True
    )
    return environment.get_template("compliance.html").render(
        title=f"合规对照表{'·' + whose if whose else ''}",
        profile=profile.head if profile else None,
        core_passing=found.count("core", "passing"),
        core_total=found.count("core"),
        governance_passing=found.count("governance", "passing"),
        governance_total=found.count("governance"),
        counts=[
            (status, WORDS[status], _ENGLISH[status], sum(row.status == status for row in found.rows))
            for status in ("failing", "not_run", "not_yet", "impossible")
        ],
        is_stale=found.is_stale,
        finished_at=found.results.finished_at,
        groups=groups,
        words=WORDS,
        marks=_MARKS,
        stages=found.stages,
    )
