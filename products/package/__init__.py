"""The package of a released product: an RO-Crate in a BagIt bag with statements, proofs and trust data."""
