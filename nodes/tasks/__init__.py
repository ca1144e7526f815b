"""Tasks a node can run; nothing outside this package ever touches a table for somebody else."""
