"""What a run folder says: its scores, how they were made, and how sure they are."""
