"""Replacing personal data by placeholders: recognisers, name lists, the key file. Also lines for the fairness audit."""
