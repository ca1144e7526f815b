"""``shufang review``: a reviewer's acts on a bundle, from the reviewer's own home.

Errors are raised as they are; the top-level command line turns them into exit codes.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from factory.terminal import show

app = typer.Typer(
    help="产品评审 | Review of products by two persons of two other organisations.",
    no_args_is_help=True,
    add_completion=False,
)

Home = Annotated[Path, typer.Option("--home", help="评审人目录 | the reviewer's home")]
Bundle = Annotated[Path, typer.Argument(help="评审材料目录 | folder of the bundle")]
AsJson = Annotated[bool, typer.Option("--json", help="输出 JSON | print JSON")]


@app.command("show")
def show_bundle(bundle: Bundle, as_json: AsJson = False) -> None:
    """查看评审材料 | Check every digest of a bundle and show points with their evidence."""
    from factory.review.review import POINTS, read_bundle

    read = read_bundle(bundle)
    lines = [f"{read.product}  {len(read.subjects)} 个文件 files, 摘要一致 digests verified"]
    lines += [
        f"  {zh} / {en} [{clause}]: {', '.join(read.points[point])}" for point, (zh, en, clause) in POINTS.items()
    ]
    show(read.model_dump(mode="json"), as_json=as_json, text="\n".join(lines))


@app.command("sign")
def sign(
    *,
    bundle: Bundle,
    home: Home,
    approve: Annotated[bool, typer.Option("--approve/--return", help="通过或退回 | conforms, or back to building")],
    reason: Annotated[str, typer.Option("--reason", help="退回理由 | why it is returned")] = "",
    note: Annotated[list[str] | None, typer.Option("--note", help="POINT:TEXT, 逐点意见 | a remark on a point")] = None,
    as_json: AsJson = False,
) -> None:
    """签署评审意见 | Sign the review, or return the product with the reason.

    Example: shufang review sign bundle --home reviewer-1 --approve
    """
    from factory.identity import load_identity
    from factory.review.review import POINTS, return_product, sign_review
    from factory.trust import load_trust

    now = datetime.now(UTC).replace(microsecond=0)
    reviewer = load_identity(home)
    trust = load_trust(reviewer.trust_path, now=now)
    if not approve:
        returned = return_product(bundle, reviewer, trust, reason=reason, now=now)
        show(returned, as_json=as_json)
        return
    notes = dict(text.partition(":")[::2] for text in note or ())
    unknown = sorted(set(notes) - set(POINTS))
    if unknown:
        raise typer.BadParameter(f"expected one of {', '.join(POINTS)}", param_hint="--note")
    sign_review(bundle, reviewer, trust, notes=notes, now=now)
    show({"reviewer": reviewer.id, "envelope": bundle / f"{reviewer.id}.dsse.json"}, as_json=as_json)


@app.command("status")
def status(bundle: Bundle, home: Home, as_json: AsJson = False) -> None:
    """评审进度 | Whose reviews of a bundle count, seen from one home's trust data."""
    from factory.identity import load_identity
    from factory.review.review import read_bundle, signed_reviews
    from factory.trust import load_trust

    now = datetime.now(UTC)
    trust = load_trust(load_identity(home).trust_path, now=now)
    show({"reviewers": sorted(signed_reviews(bundle, read_bundle(bundle), trust, now=now))}, as_json=as_json)
