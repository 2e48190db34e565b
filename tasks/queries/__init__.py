"""Functions behind interactive commands: search, explain, status, trace, promotion, erasure. Never imports prefect."""
