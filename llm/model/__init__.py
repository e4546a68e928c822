"""The network, and the Hugging Face folder that it is kept in."""
