"""A version's weights as a Hugging Face folder, whether they were uploaded or are referred to.

    folder = model_folder(registry, registry.find("champion", "llm"))

The model server and the gates' evaluation load from such a folder. MLflow's own
`pyfunc.load_model` works for both kinds as well (llm/serve/pyfunc_model.py).
"""

from pathlib import Path
from urllib.parse import urlparse

from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException

from llm.config.base import read_yaml
from llm.errors import TrackingError
from llm.files import write_dir
from llm.registry.reference import read_reference, restore
from llm.registry.versions import Registry, Version

WORK = Path(".llm")
MLMODEL = "MLmodel"


def model_folder(registry: Registry, version: Version, work: Path = WORK) -> Path:
    """The version's weights on this machine; what has to be fetched is kept below `work`.

    Weights that the version refers to are verified by md5. Raises TrackingError when MLflow
    does not give the version, DataError when neither DVC's cache nor its remote has them.
    """
    stored = _stored(registry, version, work / "weights")
    if stored.is_dir():
        return stored
    reference = read_reference(stored)
    return restore(reference, work / "weights" / reference.md5.partition(".")[0])


def _stored(registry: Registry, version: Version, fetched: Path) -> Path:
    """What MLflow was given as the artifact `model`: the folder, or the reference to it."""
    try:
        uri = registry.client.get_model_version_download_uri(version.name, version.number)
        logged = _fetch(uri, fetched / version.run_id, registry.uri)
        flavor = read_yaml(logged / MLMODEL)["flavors"]["python_function"]
        return logged / flavor["artifacts"]["model"]["path"]
    except (MlflowException, OSError, KeyError) as error:
        raise TrackingError(
            f"MLflow at {registry.uri} does not give the files of {version.uri}: {error}"
        ) from error


def _fetch(uri: str, place: Path, tracking_uri: str) -> Path:
    """The files at `uri`: where they lie, if that is on this machine, and else downloaded once."""
    if urlparse(uri).scheme in ("", "file"):
        return Path(download_artifacts(uri, tracking_uri=tracking_uri))
    if not place.is_dir():
        with write_dir(place) as partial:
            download_artifacts(uri, dst_path=str(partial), tracking_uri=tracking_uri)
    # MLflow may put what it downloads into a folder of the address's last part
    return place if (place / MLMODEL).is_file() else place / Path(urlparse(uri).path).name
