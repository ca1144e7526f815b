"""`shufang`: commands of operator, agency, reviewers, supervisors and the public.

Noun and verb; ``--json`` on what prints; exit 0 done, 1 a negative verdict or a failure with
its next step, 2 usage (``verify`` has codes of its own). Whoever acts names a home with
``--home``; a process holds the keys of one home. Heavy libraries load inside the commands.
"""

import json
import sys

import typer

from factory.agency.cli import app as agency_app
from factory.agency.cli import identity_app
from factory.bench.cli import bench
from factory.client.cli import app as client_app
from factory.demo.cli import demo
from factory.errors import FactoryError
from factory.log.cli import app as log_app
from factory.product_cli import app as product_app
from factory.product_cli import request_app
from factory.release.cli import app as release_app
from factory.review.cli import app as review_app
from factory.site.cli import catalogue, down, status, up
from factory.trial.cli import try_command
from products.cli import verify_command

app = typer.Typer(
    name="shufang",
    help="数坊：公共数据产品工厂。Shufang: a factory for public-data products.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command(name="demo")(demo)
app.command(name="up")(up)
app.command(name="status")(status)
app.command(name="down")(down)
app.command(name="catalogue")(catalogue)
app.command(name="try")(try_command)
app.command(name="verify")(verify_command)
app.command(name="bench")(bench)
for _name, _group in (
    ("identity", identity_app),
    ("agency", agency_app),
    ("request", request_app),
    ("product", product_app),
    ("review", review_app),
    ("release", release_app),
    ("client", client_app),
    ("log", log_app),
):
    app.add_typer(_group, name=_name)


def main() -> None:
    """Entry point of ``shufang``; the one place where errors become exit codes."""
    from nodes.contract.errors import ContractError
    from nodes.errors import NodeError
    from products.errors import ProductError

    try:
        app()
    except (FactoryError, ContractError, ProductError, NodeError) as error:
        if "--json" in sys.argv:
            typer.echo(json.dumps({"error": error.code, "message": str(error)}, ensure_ascii=False))
        typer.echo(f"错误 {error.code}：{error}", err=True)
        raise SystemExit(1) from None
    except OSError as error:
        message = f"{error.strerror or type(error).__name__}: {error.filename or ''}".rstrip(": ")
        typer.echo(f"错误 factory.storage：{message}；请检查磁盘与权限 check the disk and the rights", err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
