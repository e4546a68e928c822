"""Generation and scoring with a cache."""
