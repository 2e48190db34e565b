"""Intervals, paired tests, averages, and the gate that compares two encoders."""
