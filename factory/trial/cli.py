"""``shufang try``: run a recipe on local files, with one real process per party."""

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer


def try_command(
    recipe: Annotated[Path, typer.Argument(help="配方 the recipe, TOML", show_default=False)],
    *,
    table: Annotated[
        list[str],
        typer.Option(
            "--table",
            metavar="PARTY=PATH",
            help="一方的数据文件，可重复；核验的提问写作 client=FILE "
            "a party's table, repeatable; the questions of a verification are client=FILE",
            show_default=False,
        ),
    ],
    out: Annotated[Path | None, typer.Option("--out", help="产品文件写到哪里 where the product's files go")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="输出 JSON print JSON")] = False,
) -> None:
    """在本地文件上试运行 | Run a recipe on local files: real processes, throw-away trust, the same protocol.

    Prints metrics and cost (wall_s, cpu_s, bytes_sent, peak_rss_mb per party).

    Example: shufang try model.toml --table node-east=east.csv --table node-west=west.csv --out product
    """
    from factory.trial import run

    planned = run.plan(recipe, _tables(table))
    with _ended_by_signals(), _progress() as told:
        tried = run.run(planned, out=out, told=told)
    document = tried.as_json(out)
    if as_json:
        typer.echo(json.dumps(document, ensure_ascii=False))
        return
    typer.echo("\n".join([*_lines(document), *(f"  {zh}\n  {en}" for zh, en in tried.built.headline)]))


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
app.command()(try_command)


def _tables(options: list[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for text in options:
        party, equals, path = text.partition("=")
        if not (party and equals and path):
            raise typer.BadParameter(f"应为 PARTY=PATH | expected PARTY=PATH, got {text}", param_hint="--table")
        if party in found:
            raise typer.BadParameter(f"每方一个文件 | expected one file for {party}, got two", param_hint="--table")
        found[party] = Path(path)
    return found


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Turn SIGTERM into an exit that runs every clean-up, as Ctrl-C does; say that nothing is left."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("已中断：进程已结束，临时文件已删除 Interrupted: processes ended, nothing is left behind", err=True)
        raise typer.Exit(128 + signal.SIGINT) from None
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _progress() -> Iterator[Any]:  # a function that takes a text
    """Show stages on stderr: one moving line on a terminal, plain lines elsewhere."""
    live = sys.stderr.isatty()

    def told(text: str) -> None:
        sys.stderr.write(f"\r\033[K… {text}"[:120] if live else f"… {text}\n")
        sys.stderr.flush()

    try:
        yield told
    finally:
        if live:
            sys.stderr.write("\r\033[K")


def _lines(document: dict[str, Any]) -> list[str]:
    product, cost = document["product"], document["cost"]
    lines = [f"产品 product  {product['id']} {product['version']} ({product['form']})  sha256 {product['sha256']}"]
    lines += [f"  {item['path']:<20} {item['bytes']:>9} B" for item in product["files"]]
    if product["dropped"]:
        lines.append(f"  退出 dropped: {', '.join(product['dropped'])}")
    if product["out"]:
        lines.append(f"  写入 written to {product['out']}")
    lines.append("指标 metrics")
    metrics = document["metrics"].items()
    lines += [f"  {name.removesuffix('_micro'):<28} {_shown(name, value):>12}" for name, value in metrics]
    lines.append(
        f"用量 cost     wall {cost['wall_s']:.1f} s  cpu {cost['cpu_s']:.1f} s  sent {cost['bytes_sent']} B  "
        f"peak {cost['peak_rss_mb']:.0f} MB"
    )
    lines += [
        f"  {name:<14} cpu {party['cpu_s']:>6.2f} s  sent {party['bytes_sent']:>9} B  "
        f"peak {party['peak_rss_mb']:>5.0f} MB"
        for name, party in cost["parties"].items()
    ]
    return lines


def _shown(name: str, value: int | str) -> str:
    return f"{value / 1_000_000:.4f}" if name.endswith("_micro") and isinstance(value, int) else str(value)
