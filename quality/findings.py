"""Findings: what is wrong with a table before any of its cells can be judged, and why a resource is held.

A finding is a fact of a table (it has no header, it is not text of the declared encoding); a hold
reason says why the resource may not enter a run. Both are codes with fixed texts, so that no
library message, which may quote a cell, can travel with them.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of finding.

    Attributes:
        code: stable name.
        zh: what it means and what to do, Chinese.
        en: the same in English.
    """

    code: str
    zh: str
    en: str


FINDINGS: dict[str, Finding] = {
    finding.code: finding
    for finding in (
        Finding(
            "source.missing",
            "找不到数据文件；请检查路径后重新运行。",
            "The file is not there; check the path and run again.",
        ),
        Finding(
            "source.unreadable",
            "数据源无法读取；请检查格式、权限与磁盘。",
            "The source cannot be read; check format, permission and disk.",
        ),
        Finding(
            "source.format",
            "文件格式不受支持；请提供 CSV、Parquet、Excel 或数据库连接。",
            "The format is not supported; provide CSV, Parquet, Excel or a database connection.",
        ),
        Finding(
            "source.connection",
            "数据库连接文件缺失、有误或权限过宽；应为 0600。",
            "The connection file is missing, wrong or readable by others; it must have mode 0600.",
        ),
        Finding(
            "source.unreachable",
            "数据库无法连接；请检查地址、账户与网络。",
            "The database cannot be entered; check address, user and network.",
        ),
        Finding(
            "source.driver",
            "未安装读取该数据源的驱动；请安装 shufang[sources]。",
            "The driver for this source is not installed; install shufang[sources].",
        ),
        Finding(
            "source.encoding",
            "文件不是所声明的编码；请核对目录条目中的 encoding（utf-8 或 gb18030），或重新导出。",
            "The text is not in the stated encoding; check `encoding` (utf-8, gb18030) in the entry, or export again.",
        ),
        Finding(
            "source.header",
            "表头缺失、为空或列名重复；请补上唯一列名。",
            "The header is missing, blank or repeats a name; give each column one name.",
        ),
        Finding("source.empty", "表中没有数据行；请确认本次交付。", "The table has no rows; check the delivery."),
        Finding(
            "source.too_small",
            "数据行数过少，为避免推断个体不公布数字。",
            "Too few rows: no figure is published, lest a person could be inferred.",
        ),
        Finding(
            "source.malformed_rows",
            "存在字段数或引号不合规的行；请修正后重新导出。",
            "Some rows have the wrong number of fields or broken quotes; export again.",
        ),
        Finding(
            "columns.missing",
            "缺少已声明的列；请恢复该列或更新目录。",
            "A declared column is missing; restore it or update the catalogue.",
        ),
        Finding(
            "columns.extra",
            "存在未声明的列；请更新目录。",
            "There are columns that are not declared; update the catalogue.",
        ),
    )
}

HOLDS: dict[str, Finding] = {
    finding.code: finding
    for finding in (
        Finding("rule.critical", "关键规则不通过", "A critical rule failed"),
        Finding("rule.critical_not_assessed", "关键规则未能评估", "A critical rule could not be assessed"),
        Finding("dimension.threshold", "维度得分低于门限", "A dimension is below its threshold"),
        Finding("score.threshold", "综合得分低于门限", "The score is below the threshold"),
        Finding("score.not_assessed", "未能评估，不得视为合格", "Not assessed, which is not a pass"),
    )
}
