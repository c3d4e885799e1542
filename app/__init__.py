"""The dashboard: server, navigation, figures, components. Knows the store and what of the trainer needs no torch."""
