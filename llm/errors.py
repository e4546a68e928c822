"""What a person can cause, and is told about in one message: key, value, rule, remedy."""


class LLMError(Exception):
    """Base of every error that a person can cause. The command line prints it without a traceback."""


class ConfigError(LLMError):
    """params.yaml, a preset or a command-line value is not usable."""


class DataError(LLMError):
    """An input file is missing, empty, unreadable or not of the promised form."""


class CheckpointError(LLMError):
    """A checkpoint or model folder is missing, damaged or belongs to another run."""


class TrainingError(LLMError):
    """Training cannot go on (a loss or gradient norm is not finite)."""


class UnreachableError(LLMError):
    """A server does not answer now; the same may go well later (a stage's process exits with 75)."""


class TrackingError(UnreachableError):
    """MLflow cannot be reached or lacks what is asked of it."""


class EvaluationError(LLMError):
    """A benchmark or a judge cannot be run."""
