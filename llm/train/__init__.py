"""One training loop for every stage: pretraining, SFT, reward model and DPO bring a loss and batches."""
