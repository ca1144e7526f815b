"""The transparency log of the operator, its witnesses and its monitor."""
