"""What a project can free, and what it keeps for whom: one file per kind of thing."""
