"""Tests of binderkit; the folders mirror src/binderkit."""
