"""Sensors and their bands: wavelengths, ground sampling distances, units and digital-number conversions.

Owns the registry `SENSORS`. A sensor is an instrument at one processing level (`sentinel2_l2a`), a band is always known by name
(`B8A`). Adding a sensor is one entry in a table below and no change elsewhere. Knows nothing of files or of jax.

A stored digital number becomes a physical value by ``value = scale * (dn + baseline_offset_dn) + offset``; the baseline offset is
zero except for Sentinel-2 products of processing baseline 04.00 and later, which must state it.

Sources of the figures:
  Sentinel-2: ESA Sentinel-2 Spectral Response Functions v3.1 (S2A values; S2B differs by < 6 nm below 1 um); L1C/L2A quantification
    10000 and nodata 0 from the Products Specification Document 14.9. L3A: Theia/CNES WASP monthly syntheses, reflectance x 10000,
    nodata -10000.
  Sentinel-1: ESA Sentinel-1 product definition; IW GRD-HR is sampled at 10 m. Backscatter is held in dB.
  Landsat 4/5/7/8/9: USGS "What are the band designations for the Landsat satellites?" (band edges; centre is their mean). Collection-2
    level-2 scaling 2.75e-5 / -0.2 (reflectance) and 0.00341802 / 149.0 (kelvin) from LSDS-1618/1619; OLI level-1 reflectance 2e-5 / -0.1
    from the MTL constants (without sun-elevation correction). TM and ETM+ level 1 stay digital numbers: their gains are per scene.
  NAIP: Leica ADS100 band edges (Leica Geosystems data sheet); 8-bit digital numbers.
  HLS L30/S30: Harmonized Landsat Sentinel-2 Product User Guide v2.0, tables 6 to 8: reflectance x 10000, brightness temperature in
    degrees Celsius x 100 (held in kelvin), nodata -9999, all on 30 m; wavelengths are those of OLI/TIRS and MSI.
  WorldView-2, WorldView-3, GeoEye-1: Maxar "Spectral response" sheets, nominal band edges; digital numbers, calibration is per scene.
  NEON AOP camera: nominal RGB filter edges (NEON.DOC.005053); 8-bit digital numbers.
  Elevation: metres above the stated vertical datum; nodata is the file's own. The band ``height`` of a surface is metres above the
    terrain (a normalised surface model): delivered as such, or made of ``elevation`` by a slot's ``minus``.
"""

from collections.abc import Iterable, Mapping
import dataclasses
from typing import Any, Literal

from rsfm_jax.errors import InputError, nearest

Kind = Literal["optical", "thermal", "sar", "elevation"]
Unit = Literal["reflectance", "dn", "kelvin", "dB", "m"]


@dataclasses.dataclass(frozen=True)
class Band:
    """One band of a sensor.

    Attributes:
      name: The provider's band name, e.g. ``"B8A"`` or ``"VV"``.
      kind: What is measured; only optical and thermal bands have a wavelength.
      gsd_m: Native ground sampling distance in metres.
      unit: Physical unit after scale and offset.
      wavelength_nm: Centre wavelength in nanometres, or None.
      bandwidth_nm: Full width at half maximum in nanometres, or None.
      polarisation: ``"VV"``, ``"VH"``, ``"HH"`` or ``"HV"`` for radar, else None. A polarisation is not a wavelength.
      scale: Multiplies the digital number.
      offset: Added after the multiplication, in ``unit``.
      nodata: The digital number that means "no observation" when neither file nor scene description says, or None.
      valid_range: Lowest and highest plausible physical value in ``unit``.
    """

    name: str
    kind: Kind
    gsd_m: float
    unit: Unit
    wavelength_nm: float | None = None
    bandwidth_nm: float | None = None
    polarisation: str | None = None
    scale: float = 1.0
    offset: float = 0.0
    nodata: float | None = None
    valid_range: tuple[float, float] = (float("-inf"), float("inf"))


@dataclasses.dataclass(frozen=True)
class Sensor:
    """An instrument at one processing level.

    Attributes:
      name: Registry key, e.g. ``"sentinel2_l1c"``.
      title: Name for people.
      bands: Bands in the provider's order, by name.
      display: Three band names shown as red, green and blue, or one shown as grey.
      needs_baseline_offset: True when a scene must state its Sentinel-2 baseline offset.
    """

    name: str
    title: str
    bands: Mapping[str, Band]
    display: tuple[str, ...]
    needs_baseline_offset: bool = False

    def band(self, name: str) -> Band:
        """Returns the band called ``name``; raises `InputError` with the nearest name when there is none."""
        if name not in self.bands:
            raise InputError(f"sensor {self.name!r} has no band {name!r} (it has {', '.join(self.bands)}){nearest(name, self.bands)}")
        return self.bands[name]


def _optical(name: str, centre_nm: float, width_nm: float, gsd_m: float, unit: Unit = "reflectance", **more) -> Band:
    more.setdefault("valid_range", (-0.2, 2.0) if unit == "reflectance" else (0.0, 65535.0))
    return Band(name, "optical", gsd_m, unit, centre_nm, width_nm, **more)


def _edges(name: str, low_nm: float, high_nm: float, gsd_m: float, unit: Unit = "reflectance", **more) -> Band:
    return _optical(name, (low_nm + high_nm) / 2, high_nm - low_nm, gsd_m, unit, **more)


def _named(bands: Iterable[Band]) -> dict[str, Band]:
    return {band.name: band for band in bands}


_MSI = (  # name, centre nm, width nm, native GSD m
    ("B01", 442.7, 20.0, 60.0),
    ("B02", 492.7, 65.0, 10.0),
    ("B03", 559.8, 35.0, 10.0),
    ("B04", 664.6, 30.0, 10.0),
    ("B05", 704.1, 14.0, 20.0),
    ("B06", 740.5, 14.0, 20.0),
    ("B07", 782.8, 19.0, 20.0),
    ("B08", 832.8, 105.0, 10.0),
    ("B8A", 864.7, 21.0, 20.0),
    ("B09", 945.1, 19.0, 60.0),
    ("B10", 1373.5, 29.0, 60.0),
    ("B11", 1613.7, 90.0, 20.0),
    ("B12", 2202.4, 174.0, 20.0),
)


def _sentinel2(level: str, leave_out: tuple[str, ...], nodata: float, needs_offset: bool) -> Sensor:
    bands = _named(_optical(n, c, w, g, scale=1e-4, nodata=nodata) for n, c, w, g in _MSI if n not in leave_out)
    return Sensor(f"sentinel2_{level.lower()}", f"Sentinel-2 MSI {level}", bands, ("B04", "B03", "B02"), needs_offset)


_TM = (("B1", 450, 520), ("B2", 520, 600), ("B3", 630, 690), ("B4", 760, 900), ("B5", 1550, 1750), ("B7", 2080, 2350))
_ETM = (("B1", 450, 520), ("B2", 520, 600), ("B3", 630, 690), ("B4", 770, 900), ("B5", 1550, 1750), ("B7", 2090, 2350))
_OLI = (("B1", 435, 451), ("B2", 452, 512), ("B3", 533, 590), ("B4", 636, 673), ("B5", 851, 879), ("B6", 1566, 1651), ("B7", 2107, 2294))
_LEVEL2: dict[str, Any] = {"scale": 2.75e-5, "offset": -0.2, "nodata": 0.0}
_OLI_LEVEL1: dict[str, Any] = {"scale": 2e-5, "offset": -0.1, "nodata": 0.0}


def _thermal(name: str, low_nm: float, high_nm: float, gsd_m: float, level: int) -> Band:
    if level == 1:
        return Band(name, "thermal", gsd_m, "dn", (low_nm + high_nm) / 2, high_nm - low_nm, nodata=0.0, valid_range=(0.0, 65535.0))
    kelvin = {"scale": 0.00341802, "offset": 149.0, "nodata": 0.0, "valid_range": (150.0, 400.0)}
    return Band(name, "thermal", gsd_m, "kelvin", (low_nm + high_nm) / 2, high_nm - low_nm, **kelvin)


def _landsat_tm(number: int, level: int) -> Sensor:
    edges = _ETM if number == 7 else _TM
    if level == 2:
        bands = [_edges(n, lo, hi, 30.0, **_LEVEL2) for n, lo, hi in edges] + [_thermal("ST_B6", 10400, 12500, 30.0, 2)]
    else:
        bands = [_edges(n, lo, hi, 30.0, "dn", nodata=0.0) for n, lo, hi in edges]
        if number == 7:
            bands += [_thermal("B6_VCID_1", 10400, 12500, 60.0, 1), _thermal("B6_VCID_2", 10400, 12500, 60.0, 1)]
            bands += [_edges("B8", 520, 900, 15.0, "dn", nodata=0.0)]
        else:
            bands += [_thermal("B6", 10400, 12500, 120.0, 1)]
    title = f"Landsat {number} {'ETM+' if number == 7 else 'TM'} level {level}"
    return Sensor(f"landsat{number}_l{level}", title, _named(bands), ("B3", "B2", "B1"))


def _landsat_oli(number: int, level: int) -> Sensor:
    scaling = _OLI_LEVEL1 if level == 1 else _LEVEL2
    bands = [_edges(n, lo, hi, 30.0, **scaling) for n, lo, hi in _OLI]
    if level == 1:
        bands += [_edges("B8", 503, 676, 15.0, **scaling), _edges("B9", 1363, 1384, 30.0, **scaling)]
        bands += [_thermal("B10", 10600, 11190, 100.0, 1), _thermal("B11", 11500, 12510, 100.0, 1)]
    else:
        bands += [_thermal("ST_B10", 10600, 11190, 30.0, 2)]
    return Sensor(f"landsat{number}_l{level}", f"Landsat {number} OLI/TIRS level {level}", _named(bands), ("B4", "B3", "B2"))


def _hls(product: str, title: str, bands: Iterable[tuple[str, float, float]]) -> Sensor:
    named = [_optical(name, centre, width, 30.0, scale=1e-4, nodata=-9999.0) for name, centre, width in bands]
    if product == "l30":
        kelvin: dict[str, Any] = {"scale": 0.01, "offset": 273.15, "nodata": -9999.0, "valid_range": (150.0, 400.0)}
        named += [Band(n, "thermal", 30.0, "kelvin", c, w, **kelvin) for n, c, w in (("B10", 10895, 590), ("B11", 12005, 1010))]
    return Sensor(f"hls_{product}", title, _named(named), ("B04", "B03", "B02"))


def _maxar(name: str, title: str, pan_m: float, multispectral: Iterable[tuple[str, int, int]]) -> tuple[Sensor, Sensor]:
    pan = _named([_edges("P", 450, 800, pan_m, "dn", nodata=0.0)])
    bands = _named(_edges(n, lo, hi, 4 * pan_m, "dn", nodata=0.0) for n, lo, hi in multispectral)
    return Sensor(f"{name}_pan", f"{title} panchromatic", pan, ("P",)), Sensor(
        f"{name}_ms", f"{title} multispectral", bands, ("R", "G", "B")
    )


def _radar(name: str, title: str, gsd_m: float) -> Sensor:
    bands = _named(Band(p, "sar", gsd_m, "dB", polarisation=p, valid_range=(-60.0, 40.0)) for p in ("VV", "VH", "HH", "HV"))
    return Sensor(name, title, bands, ("VV",))


def _elevation(name: str, title: str, gsd_m: float) -> Sensor:
    band = Band("elevation", "elevation", gsd_m, "m", valid_range=(-500.0, 9000.0))
    return Sensor(name, title, {"elevation": band}, ("elevation",))


_WV2_MS = (
    ("C", 400, 450),
    ("B", 450, 510),
    ("G", 510, 580),
    ("Y", 585, 625),
    ("R", 630, 690),
    ("RE", 705, 745),
    ("N1", 770, 895),
    ("N2", 860, 1040),
)
_GE1_MS = (("B", 450, 510), ("G", 510, 580), ("R", 655, 690), ("N", 780, 920))
_HLS_OLI = [(f"B{int(n[1:]):02}", (lo + hi) / 2, float(hi - lo)) for n, lo, hi in (*_OLI, ("B9", 1363, 1384))]
_ADS100 = (("R", 619, 651), ("G", 525, 585), ("B", 435, 495), ("N", 808, 882))
_RGB = (("R", 580, 680), ("G", 490, 590), ("B", 400, 510))
_BYTE: dict[str, Any] = {"unit": "dn", "valid_range": (0.0, 255.0)}

_ALL = (
    _sentinel2("L1C", (), 0.0, needs_offset=True),
    _sentinel2("L2A", ("B10",), 0.0, needs_offset=True),
    _sentinel2("L3A", ("B01", "B09", "B10"), -10000.0, needs_offset=False),
    _radar("sentinel1_grd", "Sentinel-1 C-SAR IW GRD backscatter", 10.0),
    _landsat_tm(4, 1),
    _landsat_tm(4, 2),
    _landsat_tm(5, 1),
    _landsat_tm(5, 2),
    _landsat_tm(7, 1),
    _landsat_tm(7, 2),
    _landsat_oli(8, 1),
    _landsat_oli(8, 2),
    _landsat_oli(9, 1),
    _landsat_oli(9, 2),
    Sensor("naip", "NAIP aerial, 4 bands", _named(_edges(n, lo, hi, 0.6, **_BYTE) for n, lo, hi in _ADS100), ("R", "G", "B")),
    Sensor("neon_rgb", "NEON AOP camera", _named(_edges(n, lo, hi, 0.1, **_BYTE) for n, lo, hi in _RGB), ("R", "G", "B")),
    _hls("l30", "HLS Landsat OLI/TIRS surface reflectance", _HLS_OLI),
    _hls("s30", "HLS Sentinel-2 MSI surface reflectance", [(name, centre, width) for name, centre, width, _ in _MSI]),
    *_maxar("worldview2", "WorldView-2", 0.5, _WV2_MS),
    *_maxar("worldview3", "WorldView-3", 0.3, _WV2_MS),
    *_maxar("geoeye1", "GeoEye-1", 0.5, _GE1_MS),
    _elevation("dem", "Terrain elevation", 30.0),
    Sensor(
        "dsm",
        "Surface elevation",
        _named(
            Band(name, "elevation", 1.0, "m", valid_range=lowest_highest)
            for name, lowest_highest in (("elevation", (-500.0, 9000.0)), ("height", (-100.0, 1000.0)))
        ),
        ("elevation",),
    ),
)
SENSORS: dict[str, Sensor] = {sensor.name: sensor for sensor in _ALL}


def get_sensor(name: str) -> Sensor:
    """Returns the registered sensor called ``name``; raises `InputError` naming the nearest one when there is none."""
    if name not in SENSORS:
        raise InputError(f"sensor {name!r} is not in the registry (rsfm_jax/sensors.py has {', '.join(SENSORS)}){nearest(name, SENSORS)}")
    return SENSORS[name]
