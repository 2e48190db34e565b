"""One module for each stage of a night. The only place for ``@task``."""
