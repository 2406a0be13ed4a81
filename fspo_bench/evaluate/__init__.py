"""Judging, metrics, statistics, records and tables."""
