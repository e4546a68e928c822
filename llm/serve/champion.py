"""The model that is served: the version with the alias `champion`, and the next one when it moves.

Only the version's Hugging Face folder is read (safetensors and JSON), by our own code:
nothing that lies in the registry is imported or unpickled.
"""

import logging
from dataclasses import dataclass

from llm.errors import LLMError
from llm.inference.engine import Engine
from llm.registry.versions import CHAMPION, Registry, Version
from llm.registry.weights import model_folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Served:
    """A version, loaded."""

    version: Version
    engine: Engine

    @property
    def name(self) -> str:
        """NAME/NUMBER."""
        return f"{self.version.name}/{self.version.number}"

    def goes_by(self, name: str) -> bool:
        """Whether a request that names its model so means this one."""
        registered = self.version.name
        names = {registered, f"{registered}@{CHAMPION}", self.name}
        return name.removeprefix("models:/") in names


class Champion:
    """Holds the version that is served; requests in progress keep the one they began with."""

    def __init__(self, registry: Registry, name: str) -> None:
        """Load the champion; ConfigError when no version is."""
        self.registry, self.name = registry, name
        self.served = self._load(registry.find(CHAMPION, name))
        self.problem: str | None = None  # why the alias is not followed
        self._refused: str | None = None  # the version that could not be loaded

    def follow(self) -> None:
        """Load the version that is champion now, if it is another; keep the present one on any error."""
        try:
            version = self.registry.by_alias(self.name, CHAMPION)
            if version is None:
                return self._report(f"no version of {self.name} is {CHAMPION} any more")
            if version.number == self._refused:
                return None
            if version.number != self.served.version.number:
                self._refused = version.number
                self.served = self._load(version)
        except (LLMError, OSError, RuntimeError) as error:  # torch's for lack of memory, too
            return self._report(str(error))
        self._refused = self.problem = None
        return None

    def _load(self, version: Version) -> Served:
        engine = Engine.load(model_folder(self.registry, version), device="auto")
        logger.info("serving %s on %s", version.uri, engine.device)
        return Served(version, engine)

    def _report(self, problem: str) -> None:
        if problem != self.problem:
            logger.error("error: %s; serving %s as before", problem, self.served.name)
        self.problem = problem
