"""The library of the group ristretto255, without the file it leaves behind.

``rbcl`` writes its shared object (2.8 MB) to a temporary file whenever a process loads it, and
never removes it. Once loaded the file's name is not needed, so all of ours import it from here.
"""

import os
import sys
from contextlib import suppress

import rbcl

with suppress(OSError, AttributeError):
    os.unlink(sys.modules["rbcl._sodium"].lib_path)  # noqa: PTH108  the contract needs no paths

__all__ = ["rbcl"]
