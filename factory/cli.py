"""`shufang`: commands of operator, agency, reviewers, supervisors and the public.

Noun and verb; ``--json`` on what prints; exit 0 done, 1 a negative verdict or a failure with
its next step, 2 usage (``verify`` has codes of its own). Whoever acts names a home with
``--home``; a process holds the keys of one home. Heavy libraries load inside the commands.
"""

import json
import sys

import typer

from factory.agency.change_cli import app as change_app
from factory.agency.cli import app as agency_app
from factory.agency.cli import identity_app, key_app
from factory.api.cli import found_platform, serve
from factory.bench.cli import bench
from factory.client.cli import app as client_app
from factory.client.cli import verify_entity
from factory.demo.cli import demo
from factory.errors import FactoryError
from factory.feedback_cli import app as feedback_app
from factory.law.cli import app as profile_app
from factory.law.cli import compliance
from factory.log.cli import app as log_app
from factory.product_cli import app as product_app
from factory.product_cli import request_app
from factory.registry.cli import app as registry_app
from factory.release.cli import app as release_app
from factory.report_cli import app as report_app
from factory.review.cli import app as review_app
from factory.sandbox.cli import app as sandbox_app
from factory.serving.cli import app as gateway_app
from factory.site.cli import catalogue, down, status, trust_refresh, up
from factory.terminal import in_our_words
from factory.trial.cli import try_command
from products.cli import USAGE_EXIT as VERIFY_USAGE_EXIT
from products.cli import verify_command

USAGE_EXIT = 2
INTERRUPTED_EXIT = 130

app = typer.Typer(
    name="shufang",
    help="数坊：公共数据产品工厂。Shufang: a factory for public-data products.",
    no_args_is_help=True,
    add_completion=False,
    suggest_commands=False,  # click suggests already
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command(name="demo")(demo)
app.command(name="up")(up)
app.command(name="status")(status)
app.command(name="down")(down)
app.command(name="catalogue")(catalogue)
app.command(name="trust-refresh")(trust_refresh)
app.command(name="try")(try_command)
app.command(name="verify-entity")(verify_entity)
app.command(name="verify")(verify_command)
app.command(name="bench")(bench)
app.command(name="compliance")(compliance)
app.command(name="serve")(serve)
app.command(name="found-platform")(found_platform)
for _name, _group in (
    ("identity", identity_app),
    ("agency", agency_app),
    ("status-change", change_app),
    ("key-event", key_app),
    ("request", request_app),
    ("product", product_app),
    ("review", review_app),
    ("release", release_app),
    ("report", report_app),
    ("feedback", feedback_app),
    ("client", client_app),
    ("gateway", gateway_app),
    ("sandbox", sandbox_app),
    ("log", log_app),
    ("registry", registry_app),
    ("profile", profile_app),
):
    app.add_typer(_group, name=_name)


def main() -> None:
    """Entry point of ``shufang``."""
    raise SystemExit(run())


def run() -> int:
    """Run one command and return its exit code; the one place where errors become exit codes."""
    import click

    from nodes.contract.errors import ContractError
    from nodes.errors import NodeError
    from products.errors import ProductError
    from quality.errors import QualityError

    try:
        code = app(standalone_mode=False)
    except click.UsageError as error:
        error.show()
        # 2 is a verdict of `verify`: suspended or revoked.
        return VERIFY_USAGE_EXIT if error.ctx is not None and error.ctx.info_name == "verify" else USAGE_EXIT
    except click.Abort:
        typer.echo("已中断 interrupted", err=True)
        return INTERRUPTED_EXIT
    except (FactoryError, ContractError, ProductError, NodeError, QualityError) as error:
        return _failed(error.code, str(error))
    except Exception as error:
        told = in_our_words(error)
        if told is None:
            raise
        return _failed(told.code, str(told))
    return code if isinstance(code, int) else 0


def _failed(code: str, message: str) -> int:
    if "--json" in sys.argv:
        typer.echo(json.dumps({"error": code, "message": message}, ensure_ascii=False))
    typer.echo(f"错误 {code}：{message}", err=True)
    return 1


if __name__ == "__main__":
    main()
