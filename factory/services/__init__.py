"""What people and services may have done in the registry: one module per machine, one way through the desk."""
