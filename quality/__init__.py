"""Expectation suites, scores and reports on the quality of a department's tables."""
