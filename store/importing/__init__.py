"""Runs of other tools: each reader knows the files of one, and `saving` puts what it found into the database."""
