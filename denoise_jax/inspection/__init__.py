"""Showing noise to people: examples, statistics, terminal views and an HTML page."""
