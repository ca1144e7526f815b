"""Words of the reports, Chinese and English; one place, so that page and PDF say the same."""

TEXT: dict[str, tuple[str, str]] = {
    "heading": ("数据质量报告", "Data quality report"),
    "resource": ("数据资源", "Resource"),
    "owner": ("数据提供部门", "Department"),
    "node": ("执行节点", "Node"),
    "assessed": ("评估时间", "Assessed"),
    "delivered": ("交付时间", "Delivered"),
    "table": ("行 × 列", "Rows × columns"),
    "suite": ("规则集", "Suite"),
    "engine": ("评估引擎", "Engine"),
    "score": ("综合得分", "Score"),
    "pass": ("准予进入加工", "Admitted to runs"),
    "held": ("暂停使用，待整改", "Held until rectified"),
    "capped": ("关键规则不通过，等级封顶", "capped by a failed critical rule"),
    "why": ("暂停原因", "Why it is held"),
    "findings": ("数据源发现", "Findings about the source"),
    "trend": ("历次得分", "Trend"),
    "dimension": ("维度（GB/T 36344）", "Dimension (GB/T 36344)"),
    "weight": ("权重", "Weight"),
    "points": ("得分", "Score"),
    "threshold": ("门限", "Threshold"),
    "change": ("较上次", "Change"),
    "failed": ("不通过的规则", "Rules that failed"),
    "orders": ("整改单", "Rectification orders"),
    "order": ("单号", "Order"),
    "origin": ("来源", "Origin"),
    "opened_on": ("开立", "Opened"),
    "due_on": ("期限", "Due"),
    "state": ("状态", "State"),
    "order_note": (
        "期限按法定工作日计算；逾期未整改即暂停该资源参加新的计算。带 * 的期限所在年份节假日尚未公布。",
        "Deadlines run on working days; an overdue order holds the resource. *: holidays of that year not decreed.",
    ),
    "unassessed": ("未评估的规则及原因", "Rules not assessed, and why"),
    "passed": ("通过的规则", "Rules that hold"),
    "id": ("编号", "Id"),
    "columns": ("字段", "Columns"),
    "rule": ("规则", "Rule"),
    "severity": ("级别", "Severity"),
    "checked": ("检查数", "Checked"),
    "failing": ("问题数", "Failing"),
    "rate": ("问题率", "Rate"),
    "allowed": ("允许", "Allowed"),
    "result": ("结论", "Result"),
    "reason": ("原因", "Reason"),
    "matrix": ("字段 × 维度", "Columns × dimensions"),
    "indicators": ("二十项指标（X = A/B）", "The twenty indicators (X = A/B)"),
    "indicator": ("指标", "Indicator"),
    "update": ("更新承诺与实际", "Promised and actual update"),
    "promised": ("承诺（天）", "Promised (days)"),
    "actual": ("实际滞后（天）", "Actual lag (days)"),
    "radar_note": (
        "实线为本次，虚线为上次；虚线轴表示未评估。",
        "Solid: this delivery, dashed: the one before; a dashed axis was not assessed.",
    ),
    "not_assessed": ("未评估", "not assessed"),
    "digest": ("报告摘要 SHA-256", "Report digest SHA-256"),
    "signature": ("节点签名", "Signature of the node"),
    "unsigned": ("尚未签名：签名前的草稿页。", "Not signed yet: a page drawn before the signature."),
    "signed_by": (
        "由 {node} 签名（ECDSA P-256，DSSE），公钥标识 {keyid}，签名值 {sig}",
        "Signed by {node} (ECDSA P-256, DSSE), key {keyid}, signature {sig}",
    ),
    "drift": ("分布漂移（PSI）", "Drift of distributions (PSI)"),
    "drift_column": ("字段", "Column"),
    "drift_now": ("与上次交付相比", "Against the delivery before"),
    "method": (
        (
            "只含汇总数：1 至 {below} 的计数显示为「<{cell}」并按 {cell} 计分，其余取整到 {base}，"
            "全表变动不足 {move} 行时沿用上次数字；不含任何原始取值。"
            "综合得分低于 {least}、任一维度低于门限或关键规则不通过即暂停使用；未评估不等于满分。"
        ),
        (
            "Aggregates only: counts from 1 to {below} are shown as <{cell} and scored as {cell}, others are rounded "
            "to {base} and stay as they were while fewer than {move} rows of the table changed; no value of the "
            "table is in this report. A total below {least}, a dimension below its "
            "threshold or a failed critical rule holds the resource; not assessed is not a full score."
        ),
    ),
    "all_failed_none": ("没有不通过的规则。", "No rule failed."),
}
SEVERITY: dict[str, tuple[str, str]] = {
    "critical": ("关键", "critical"),
    "major": ("重要", "major"),
    "minor": ("一般", "minor"),
}
STATUS: dict[str, tuple[str, str]] = {
    "pass": ("通过", "pass"),
    "fail": ("不通过", "fail"),
    "error": ("未能执行", "could not run"),
    "not_assessed": ("未评估", "not assessed"),
}
ORIGIN: dict[str, tuple[str, str]] = {
    "rectification": ("规则不通过", "failed rule"),
    "feedback": ("质量反馈", "feedback"),
    "objection": ("异议", "objection"),
    "dispute": ("争议", "dispute"),
}
STATE: dict[str, tuple[str, str]] = {
    "filed": ("待核实", "to be decided"),
    "open": ("整改中", "open"),
    "rejected": ("不予受理", "rejected"),
    "closed": ("已整改", "put right"),
    "overdue": ("逾期", "overdue"),
}
GRADE: dict[str, tuple[str, str]] = {
    "excellent": ("优", "excellent"),
    "good": ("良", "good"),
    "fair": ("中", "fair"),
    "poor": ("差", "poor"),
    "not_assessed": ("未评估", "not assessed"),
}
REASON: dict[str, tuple[str, str]] = {
    "source": ("数据源无法读取", "the source could not be read"),
    "reference": ("对照的数据资源不可用", "the other resource is not available"),
    "column_missing": ("缺少所需的列", "a column it needs is missing"),
    "no_rows": ("表中没有数据行", "the table has no rows"),
    "nothing_to_check": ("没有可评估的元素（B = 0）", "nothing to evaluate (B = 0)"),
    "too_few_rows": ("元素过少，不公布数字", "too few elements, no figure is published"),
    "first_delivery": ("没有可对比的上一次交付", "there is no delivery before to compare with"),
    "unknown_rule": (
        "规则类型不存在或参数有误，请核对规则集",
        "no such rule, or not with these arguments; check the suite",
    ),
    "could_not_run": ("规则无法在该数据上执行", "the rule could not be run on this table"),
}
