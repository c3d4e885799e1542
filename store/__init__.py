"""The SQL database that trainer and dashboard share."""
