"""The run context, its settings, the decorator of tasks, and the reports that stages return."""
