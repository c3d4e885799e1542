"""The dashboard: server, navigation, and one folder for each page. It uses only the torch-free parts of the trainer."""
