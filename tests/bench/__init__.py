"""Tests of the benchmark's own arithmetic and machinery; no timing is asserted."""
