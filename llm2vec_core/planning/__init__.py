"""Plan the memory, time and cost of a recipe before it runs, and measure the peak speed of this machine."""
