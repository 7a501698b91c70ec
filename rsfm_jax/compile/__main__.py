"""Front door of compiling: the true train step for a pod that need not be there, or for the GPUs that are. Exit code 0: fits, 3: does not.

    python -m rsfm_jax.compile --config=configs/a2mae.py:vit_l --topology=v5p:8x8x8

Layouts are those of --config.data.path, or of config.ingest.layouts where that is empty. Activations are all that the compiler needs
besides the state and the batch. What each chip sends is worked out by the ring algorithm.
"""

import sys

from absl import flags, logging

from rsfm_jax import cli
from rsfm_jax.compile.topology import LOCAL, local_topology, parse_topology, pod_devices, prepare_compiler
from rsfm_jax.config import Config
from rsfm_jax.data.dataset import open_dataset
from rsfm_jax.errors import EXIT_OK, InputError, exit_code
from rsfm_jax.layouts import Layout

EXIT_DOES_NOT_FIT = 3
_CONFIG = cli.define_config()
_TOPOLOGY = flags.DEFINE_string("topology", None, "pod slice, as v5e:16x16, v5p:8x8x8 or v6e:16x16; local: the GPUs of this machine")
_SLICES = flags.DEFINE_integer("slices", 1, "number of such slices")
_JSON = flags.DEFINE_bool("json", False, "print one JSON line for each layout instead of a table")


def _layouts(config: Config) -> tuple[Layout, ...]:
    if config.data.path:
        return open_dataset(config.data.path, config.data.curation).layouts
    if not config.ingest.layouts:
        raise InputError("no layouts: the config has none in config.ingest.layouts; give a dataset with --config.data.path=FOLDER")
    return config.ingest.layouts


def _run() -> int:
    if cli.show_help(sys.argv, __doc__ or ""):
        return EXIT_OK
    cli.parse(sys.argv)
    logging.set_verbosity(logging.ERROR)
    config = cli.loaded_config(_CONFIG, required=True)
    name = cli.required_flag("topology", _TOPOLOGY.value, "v5p:8x8x8")
    topology = local_topology(_SLICES.value) if name == LOCAL else parse_topology(name, _SLICES.value)
    layouts = _layouts(config)
    if name != LOCAL:
        prepare_compiler()
    from rsfm_jax.compile.compiling import DoesNotFitError, compile_report  # after the environment is set: these import jax
    from rsfm_jax.compile.report import advice
    from rsfm_jax.train.program import make_program

    program = make_program(config, layouts, pod_devices(topology))
    code = EXIT_OK
    for layout in layouts:
        try:
            report = compile_report(program, layout, topology)
        except DoesNotFitError as error:
            print(error, file=sys.stderr, flush=True)
            code = EXIT_DOES_NOT_FIT
            continue
        print(report.to_json() if _JSON.value else report.to_text(), flush=True)
        if not report.fits:
            print(advice(report, config, program.mesh.shape["fsdp"], program.mesh.shape["tensor"]), file=sys.stderr, flush=True)
            code = EXIT_DOES_NOT_FIT
    return code


if __name__ == "__main__":
    sys.exit(exit_code(_run))
