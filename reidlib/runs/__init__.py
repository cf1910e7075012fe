"""Runs: from rows of tables to records."""
