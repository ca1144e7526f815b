"""One file per revision of the registry."""
