"""One module for each stage of a night. Every task is declared here, with ``@stage_task``."""
