"""The dashboard: server, navigation, and one folder for each page. Of the trainer it uses only what needs no torch."""
