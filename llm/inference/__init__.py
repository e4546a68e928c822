"""Generation and scoring with a KV cache."""
