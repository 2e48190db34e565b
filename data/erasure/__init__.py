"""Removing a person from all stored data, and the scan that proves it."""
