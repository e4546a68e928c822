"""Prefect drives the DVC graph: a stage is a process, DVC is the only cache, no flow imports torch."""
