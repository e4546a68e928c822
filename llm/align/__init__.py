"""Alignment: the losses and batches of pretraining's successors; the loop is llm.train's."""
