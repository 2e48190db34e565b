"""Removing a person from all stored data, and a scan that proves it."""
