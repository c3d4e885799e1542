"""The one SQL database that trainer and dashboard share. Knows nothing of either."""
