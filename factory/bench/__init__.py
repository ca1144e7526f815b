"""Measurements: what a run costs in time, memory and bytes."""
