"""From a reviewed product to a registered, signed and logged package."""
