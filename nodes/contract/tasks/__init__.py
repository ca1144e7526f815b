"""Parameter classes of the tasks: what an order may ask of each, one module per task."""
