"""Import runs of other tools. Each reader reads the files of one tool, and `saving` stores the runs that it finds."""
