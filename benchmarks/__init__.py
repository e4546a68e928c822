"""Our speed and quality beside named peers, in the same run. RESULTS.md has what was seen."""
