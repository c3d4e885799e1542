"""What a run stood in: the code that it was started from, and the machine that it ran on."""
