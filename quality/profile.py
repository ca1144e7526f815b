"""Profile files: the weights and thresholds of a deployment, as JSON."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from quality.errors import ProfileError
from quality.scoring import DEFAULT_PROFILE, Profile


def load(path: Path) -> Profile:
    """Read a profile file; keys that it does not name keep the default's value.

    Raises:
        ProfileError: not readable, not JSON, an unknown key or a wrong value.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ProfileError(f"expected a readable JSON profile at {path.name}, got {type(error).__name__}") from error
    return parse(document)


def parse(document: object) -> Profile:
    """Turn the JSON of a profile into a checked profile.

    Raises:
        ProfileError: an unknown key or a wrong value.
    """
    if not isinstance(document, dict):
        raise ProfileError("expected an object in the profile")
    known = {item.name for item in fields(Profile)}
    unknown = sorted(set(document) - known)
    if unknown:
        raise ProfileError(f"expected only {', '.join(sorted(known))} in the profile, got {', '.join(unknown)}")
    values: dict[str, Any] = {name: document.get(name, getattr(DEFAULT_PROFILE, name)) for name in known}
    try:
        values["grades"] = tuple((str(grade), int(low)) for grade, low in values["grades"])
        return Profile(**values)
    except (TypeError, ValueError, AttributeError) as error:
        raise ProfileError("expected whole numbers for weights and hundredths for thresholds") from error
