"""The kinds of product, the package format and the offline verifier; pure, and installable alone."""
