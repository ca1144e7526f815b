"""The application unit's half of protocols in which it takes part with keys of its own."""
