"""Finds the scenes of a folder: those of `scenes.yaml`, and products that are known by their metadata or their names.

A `scenes.yaml` speaks for its folder and everything below. Elsewhere each reader of `rsfm_jax.ingest.products` is asked in turn; a product
with a file that is already described is left to that description. What nobody recognises is named.
"""

from collections.abc import Iterator
import dataclasses
import pathlib
from types import ModuleType

from rsfm_jax.errors import InputError
from rsfm_jax.ingest.products import dem, hls, landsat, maxar, naip, sentinel1, sentinel2, stac
from rsfm_jax.ingest.products.product import Product
from rsfm_jax.ingest.scenes import Scene, check_unique, read_file, read_scene

READERS: dict[str, ModuleType] = {  # in order of precedence
    "STAC": stac,
    "Sentinel-2": sentinel2,
    "Sentinel-1": sentinel1,
    "Landsat": landsat,
    "HLS": hls,
    "NAIP": naip,
    "Maxar": maxar,
    "elevation model": dem,
}
RASTERS = (".tif", ".tiff", ".jp2", ".ntf", ".img", ".vrt", ".hgt")
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz")
_SIDECARS = (".aux.xml", ".ovr", ".msk", ".tfw", ".tifw", ".jgw", ".j2w", ".prj", ".rrd", ".aux")


@dataclasses.dataclass(frozen=True)
class Survey:
    """What is in a folder.

    Attributes:
      descriptions: Each `scenes.yaml`.
      products: Products by kind, in the order they were recognised.
      left: Files that no scene comes from, each with the reason.
    """

    descriptions: dict[pathlib.Path, list[Scene]]
    products: list[tuple[str, Product]]
    left: dict[pathlib.Path, str]


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a folder or file holds.

    Attributes:
      scenes: The scenes.
      unrecognised: ``PATH: reason`` for each file that none comes from.
      broken: What is wrong with a product, or an item of a STAC catalogue, that no scene could be made of.
    """

    scenes: list[Scene]
    unrecognised: list[str]
    broken: list[str]


def survey(folder: pathlib.Path) -> Survey:
    """Looks at all files of a folder and below, but for hidden ones.

    Args:
      folder: The folder.

    Returns:
      Descriptions, products and what is left.

    Raises:
      InputError: a `scenes.yaml` is wrong.
    """
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and not _hidden(file, folder)]
    descriptions = {file: read_file(file) for file in files if file.name == "scenes.yaml"}
    claimed: set[pathlib.Path] = set(descriptions)
    for scenes in descriptions.values():
        claimed |= {pathlib.Path(band.path) for scene in scenes for band in scene.bands.values()}
        claimed |= {pathlib.Path(scene.mask.path) for scene in scenes if scene.mask}
    left: dict[pathlib.Path, str] = {}
    for description in descriptions:
        below = [file for file in files if description.parent in file.parents]
        left |= {file: f"{description} does not name it" for file in below if file not in claimed}
    open_files = [file for file in files if file not in left]
    products = []
    for kind, reader in READERS.items():
        for product in reader.find(open_files):
            if product.files & claimed:
                left |= {file: "belongs to a product that is described otherwise" for file in product.files - claimed if file in files}
            else:
                products.append((kind, product))
                claimed |= product.files
    left |= {file: _why(file) for file in open_files if file not in claimed and file not in left}
    names = {(file.parent, file.name) for file in claimed} | {(file.parent, file.stem) for file in claimed}
    return Survey(descriptions, products, {file: why for file, why in left.items() if file not in claimed and not _is_sidecar(file, names)})


def _hidden(file: pathlib.Path, folder: pathlib.Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _is_sidecar(file: pathlib.Path, names: set[tuple[pathlib.Path, str]]) -> bool:
    suffix = next((suffix for suffix in _SIDECARS if file.name.lower().endswith(suffix)), None)
    return suffix is not None and (file.parent, file.name[: -len(suffix)]) in names


def _why(file: pathlib.Path) -> str:
    if file.suffix.lower() in _ARCHIVES:
        return "is an archive; unpack it"
    if file.suffix.lower() in RASTERS:
        return "is of no product known here; describe it in a scenes.yaml"
    return "is no imagery known here"


def find_inputs(path: pathlib.Path, strict: bool = True) -> Inputs:
    """The scenes of a folder or file.

    Args:
      path: A folder; or a `scenes.yaml`, or the JSON file of a STAC item, collection of items, collection or catalogue.
      strict: Whether the first product or item of which no scene can be made raises; else it is left out and named.

    Returns:
      All scenes, what was not recognised and what is broken.

    Raises:
      InputError: nothing there, nothing recognised, no scene that is whole, an error in a `scenes.yaml`, or where strict in a product.
    """
    if path.is_file():
        return _whole(list(_of_file(path)), [], strict)
    if not path.is_dir():
        raise InputError(f"--scenes={path}: no such folder")
    found = survey(path)
    scenes: list[Scene | InputError] = [scene for described in found.descriptions.values() for scene in described]
    for kind, product in found.products:
        scenes += scenes_of(kind, product)
    unrecognised = [f"{file}: {why}" for file, why in found.left.items()]
    if not scenes:
        seen = f" ({len(unrecognised)} files, as {unrecognised[0]})" if unrecognised else ""
        raise InputError(
            f"--scenes={path}: no scenes.yaml in it or below, and no product that is known{seen}; "
            f"python -m rsfm_jax.ingest --draft --scenes {path} writes a scenes.yaml for you to complete (docs/products.md)"
        )
    return _whole(scenes, unrecognised, strict)


def _whole(found: list[Scene | InputError], unrecognised: list[str], strict: bool) -> Inputs:
    """Parts scenes from what is wrong with others; raises it where strict, or where there is nothing else."""
    scenes = [one for one in found if isinstance(one, Scene)]
    broken = [one for one in found if isinstance(one, InputError)]
    if broken and (strict or not scenes):
        raise broken[0]
    check_unique(scenes)
    return Inputs(scenes, unrecognised, [str(error) for error in broken])


def find_scenes(path: pathlib.Path) -> list[Scene]:
    """The scenes of `find_inputs`."""
    return find_inputs(path).scenes


def _of_file(path: pathlib.Path) -> Iterator[Scene | InputError]:
    if path.suffix.lower() in (".yaml", ".yml"):
        yield from read_file(path)
    elif path.suffix.lower() in (".json", ".geojson"):
        yield from scenes_of("STAC", Product(path, frozenset([path])))
    else:
        raise InputError(f"--scenes={path}: is a file; give its folder, a scenes.yaml, or the JSON file of a STAC item or catalogue")


def scenes_of(kind: str, product: Product) -> list[Scene | InputError]:
    """The scenes of a product, read as strictly as those of a `scenes.yaml`; in the place of one that is wrong, what is wrong with it."""
    try:
        entries = READERS[kind].read(product.path)
    except InputError as error:
        return [error]
    found: list[Scene | InputError] = []
    for i, entry in enumerate(entries):
        try:
            found.append(entry if isinstance(entry, InputError) else read_scene(product.path, f"{kind} scene {i}", entry, pathlib.Path()))
        except InputError as error:
            found.append(error)
    return found
