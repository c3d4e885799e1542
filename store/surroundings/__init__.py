"""The environment of a run: its code and the machine that it ran on."""
