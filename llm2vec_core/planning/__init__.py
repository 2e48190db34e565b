"""What a recipe will need before it runs: memory, hours, cost; and the peak speed of this machine."""
