"""Replacing personal data by placeholders: recognisers, name lists, the key file, and lines for the fairness audit."""
