"""What a run will cost, and whether it fits, told from the params alone: no torch is loaded."""
