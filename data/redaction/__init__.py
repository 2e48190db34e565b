"""Replacing personal data by placeholders: recognisers, name lists, the key file, swaps for audits."""
