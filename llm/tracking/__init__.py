"""MLflow records: stages append events to files, one sender per pipeline delivers them."""

import os

# MLflow reads the first two while it is imported. Its own 7 retries would take 4 minutes.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
