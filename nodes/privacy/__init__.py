"""The node halves of the privacy protocols."""
