"""Official releases of the benchmarks, as their hubs publish them, to the files that evaluation reads.

    rows        the tables of a release (parquet, JSON lines), row by row, each field checked
    question    what a row asks
    vsi, spar, mmsi, spatialeval    one release each: its files, fields, counts, and where these are known from
    expected    how many items there should be
    pictures    images embedded in a table
    videos      where a scene's video lies: a folder or a zip archive
    frames      which frames of a video are taken, and decoding them
    folders     images on disk: a folder an item or video, whole or absent
    state       which conversion a folder belongs to
    plan        everything but the images, checked before the first of them is written
    convert     all of it

Needs pyarrow for parquet and PyAV for videos, beyond the core; they are imported when such a file is met.
"""

from vilasr.benchmark_release.convert import Converted, convert
from vilasr.benchmark_release.mmsi import MMSI
from vilasr.benchmark_release.plan import Job
from vilasr.benchmark_release.question import Release
from vilasr.benchmark_release.spar import SPAR, SPAR_TINY
from vilasr.benchmark_release.spatialeval import SPATIALEVAL
from vilasr.benchmark_release.vsi import VSI

RELEASES: dict[str, Release] = {
    "vsi": VSI,
    "spar": SPAR,
    "spar_tiny": SPAR_TINY,
    "mmsi": MMSI,
    "spatialeval": SPATIALEVAL,
}

__all__ = ["RELEASES", "Converted", "Job", "Release", "convert"]
