"""A whole deployment on one machine: every party with its own folder, keys and processes."""
