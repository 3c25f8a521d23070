"""Benchmarks of binderkit beside a C ping-pong and other Python packages."""
