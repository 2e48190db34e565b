"""What every task is given: the run and its settings; and the reports that stages return."""
