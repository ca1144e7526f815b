"""The operator halves of the protocols, and sessions as the operator drives them."""
