"""params.yaml as types: one immutable section per stage, filed by room.

A stage imports only the file that holds its own section, so that editing the judge's
section never reruns pretraining. `llm.config.params` is the whole file.
"""
