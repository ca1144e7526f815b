"""The hub: a hardened Flower SuperLink and the relay beside it, and the buses that reach nodes through them."""
