"""Figures of records, one file for each kind of benchmark, and what they share."""
