"""Recognisers: functions that find one kind of personal data in a text. They yield spans."""
