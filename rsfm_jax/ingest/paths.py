"""Where a raster is, as GDAL opens it: a local file, or an object of a store or server.

Owns the translation of URIs. Whether a remote object exists is found when it is opened; nothing here goes to the network.
"""

import pathlib
import re

from rsfm_jax.errors import InputError, nearest

_GDAL = {"s3": "/vsis3/", "gs": "/vsigs/", "az": "/vsiaz/", "http": "/vsicurl/http://", "https": "/vsicurl/https://"}


def is_remote(path: str) -> bool:
    """Whether GDAL reads a path through one of its virtual file systems, so that it is no file of this machine."""
    return path.startswith("/vsi")


def gdal_path(where: str, root: pathlib.Path, name: str) -> str:
    """The path that GDAL opens.

    Args:
      where: Start of messages.
      root: Folder that a local name is relative to.
      name: A file's name, a URI (``s3://``, ``gs://``, ``az://``, ``http://``, ``https://``, ``file://``), or GDAL's own ``/vsi...``.

    Returns:
      The path of a local file that exists, or GDAL's path of a remote one.

    Raises:
      InputError: no such file, a folder, or a URI of another scheme.
    """
    if is_remote(name):
        return name
    if match := re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", name):
        scheme, rest = match[1].lower(), match[2]
        if scheme in _GDAL:
            return _GDAL[scheme] + rest
        if scheme != "file":
            raise InputError(
                f"{where}: {name} is a URI of unknown kind; it may begin with {', '.join(f'{s}://' for s in _GDAL)} or file://"
            )
        name = rest
    path = root / name
    if path.is_dir():
        raise InputError(f"{where}: {path} is a folder; name the file")
    if not path.is_file():
        near = nearest(path.name, [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else [])
        raise InputError(f"{where}: file {path} does not exist{near}")
    return str(path)
