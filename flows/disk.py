"""A full disk, told in one message whoever meets it: DVC, git or we."""

from llm.files import is_disk_full


def full_disk(error: BaseException) -> str | None:
    """The message, if it is that what the error came from."""
    if not is_disk_full(error):
        return None
    while not isinstance(error, OSError) and (cause := error.__cause__ or error.__context__):
        error = cause
    return (
        f"the disk is full ({error}); free some space and run it again: it goes on where it was, "
        "and nothing half-written is left"
    )
