"""Coverage-guided fuzzing of the verifier with atheris; runs in the environment of the foreign tools.

    .venv-foreign/bin/python tests/foreign/fuzz_verifier.py PACKAGE ROOT_SHA256 NOW [-runs=N …]

One file of an honest package is replaced by what the fuzzer makes of it. The verifier must answer, with a
failed check, and without an exception: a crash, a hang or a false accept ends the run with an error.
"""

import sys
from datetime import datetime
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["products"]):
    from products.package.bag import facts_of
    from products.package.reading import PackageFiles, read_package
    from products.verification.checks import CheckList
    from products.verify import _Run

FOLDER, ROOT, NOW = Path(sys.argv[1]), sys.argv[2], datetime.fromisoformat(sys.argv[3])
GOOD = read_package(FOLDER)
# Signatures of interop files may be spelled twice (ECDSA has two); all else has one spelling.
NAMES = sorted(name for name in GOOD.content if not name.startswith("interop/"))


def verdict(files: PackageFiles) -> tuple[str, tuple[str, ...]]:
    run = _Run(CheckList(), FOLDER, ROOT, None, NOW)
    run._establish(files)
    if run.facts is not None:
        run._apply(run.facts)
    return run._verdict(), tuple(check.code for check in run.checks.checks() if check.outcome == "failed")


def altered(data: bytes) -> PackageFiles | None:
    provider = atheris.FuzzedDataProvider(data)
    name = NAMES[provider.ConsumeIntInRange(0, len(NAMES) - 1)]
    content = bytearray(GOOD.content[name])
    if provider.ConsumeBool():
        start = provider.ConsumeIntInRange(0, max(len(content) - 1, 0))
        length = provider.ConsumeIntInRange(0, 64)
        content[start : start + length] = provider.ConsumeBytes(128)
    else:
        content = bytearray(provider.ConsumeBytes(1 << 16))
    if bytes(content) == GOOD.content[name]:
        return None
    facts = {**GOOD.facts, name: facts_of([bytes(content)], sm3=name.startswith("data/"))}
    return PackageFiles(facts, {**GOOD.content, name: bytes(content)})


def one(data: bytes) -> None:
    files = altered(data)
    if files is None:
        return
    found, failed = verdict(files)
    if found != "invalid" or not failed:
        raise AssertionError(f"an altered package was accepted as {found}")


if __name__ == "__main__":
    found, failed = verdict(GOOD)
    assert found == "unknown" and not failed, (found, failed)
    atheris.Setup([sys.argv[0], "-timeout=20", "-rss_limit_mb=2048", *sys.argv[4:]], one)
    atheris.Fuzz()
