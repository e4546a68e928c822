"""From raw text to a served language model."""
