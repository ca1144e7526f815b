"""Tests, pre-release report and two-person review of a built product."""
