"""``shufang demo``."""

from pathlib import Path
from typing import Annotated

import typer

from factory.terminal import ended_by_signals


def demo(
    out: Annotated[Path, typer.Option("--out", help="输出目录 | where everything goes; made anew")] = Path("out/demo"),
    data: Annotated[Path | None, typer.Option("--data", help="真实数据目录 | folder with open tables")] = None,
    *,
    keep: Annotated[bool, typer.Option("--keep", help="结束后保持运行 | leave the processes running")] = False,
) -> None:
    """跑通主流程：三个部门、三件产品、离线核验 | The main job: three departments, three products, verified offline.

    Example: shufang demo --out out/demo
    """
    from factory.demo.run import run_demo

    with ended_by_signals("进程已结束 the processes have ended"):
        code = run_demo(out, data=data, keep=keep)
    raise typer.Exit(code)
