"""The run's page and cards, from what the stages wrote; draws and words, computes nothing."""
