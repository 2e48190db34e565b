"""What interactive commands call: search, explain, status, trace, promotion, erasure. Never imports prefect."""
