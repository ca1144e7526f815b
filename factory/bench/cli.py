"""``shufang bench``: measurements by name, each printed as one object of fixed shape."""

import importlib
import json
import sys
from typing import Annotated, Any

import typer

BENCHES = {
    "log": "factory.bench.log",
    "verify": "factory.bench.verify",
    "vertical-lr": "factory.bench.vertical_lr",
    "quality": "factory.bench.quality",
    "verification": "factory.bench.verification",
    "psi": "factory.bench.psi",
}
"""Module by name; each has ``run(*, rows: int | None) -> dict``, ``psi`` also takes ``small``."""


def bench(
    name: Annotated[str, typer.Argument(help=f"测量项目 | what to measure: {', '.join(BENCHES)}")],
    *,
    rows: Annotated[int | None, typer.Option(help="数据量 | how much of the work's data", min=1)] = None,
    small: Annotated[
        int | None, typer.Option(help="较小一方的行数（psi）| rows of the smaller side (psi)", min=1)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="输出 JSON | print JSON")] = False,
) -> None:
    """测量性能 | Measure one kind of work: processor and wall time, memory, bytes.

    Example: shufang bench log --json
    """
    if name not in BENCHES:
        raise typer.BadParameter(f"没有这一项 | no such measurement: {name}; 可选 | known: {', '.join(BENCHES)}")
    if small is not None and name != "psi":
        raise typer.BadParameter("--small 只用于 psi | --small is for psi alone")
    more = {} if small is None else {"small": small}
    result: dict[str, Any] = importlib.import_module(BENCHES[name]).run(rows=rows, **more)
    if as_json:
        text = json.dumps(result, ensure_ascii=False, indent=1)
    else:
        text = "\n".join(f"{key:>16}  {value}" for key, value in result.items() if not isinstance(value, dict))
    sys.stdout.write(f"{text}\n")


app = typer.Typer(add_completion=False)
app.command()(bench)
