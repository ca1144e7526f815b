"""Pipelines: from a recipe and granted sessions to the files of a product."""
