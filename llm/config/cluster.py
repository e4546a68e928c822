"""Section `cluster`. No stage's params: it changes no result, so that nothing runs again for it."""

from typing import Annotated

from pydantic import Field

from llm.config.base import Section


class ClusterConfig(Section):
    """Where the maps over shards of the corpus stages run."""

    scheduler: Annotated[str, Field(pattern=r"^$|^[a-z]+://\S+$")]
    """Address of a Dask scheduler, e.g. tcp://10.0.0.5:8786; '' is processes of this machine."""
