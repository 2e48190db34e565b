"""What a run did: the run record, its usage and cost, and lineage events."""
