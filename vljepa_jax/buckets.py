"""Orbax's options for checkpoints in a bucket."""

from __future__ import annotations

import functools
import os
from typing import Any

import orbax.checkpoint as ocp

from vljepa_jax.places import AnyPath, in_bucket


def commit_options(directory: AnyPath) -> dict[str, Any]:
    """The keyword by which Orbax's classes mark a checkpoint as complete with a file.

    In a bucket a rename is a copy of everything. On a disk, where it is atomic, there is none.
    """
    if not in_bucket(directory):
        return {}
    if os.fspath(directory).startswith("s3://"):
        _teach_orbax_s3()
    mode = ocp.options.AtomicityMode.COMMIT_FILE
    return {"atomicity_options": ocp.options.AtomicityOptions(mode=mode)}


def _s3_spec(address: str) -> dict[str, Any]:
    """TensorStore's spec of a place in S3."""
    bucket, _, path = address.removeprefix("s3://").partition("/")
    spec = {"driver": "s3", "bucket": bucket, "path": path}
    # TensorStore itself reads neither of them, so that it would look for the bucket at Amazon.
    if endpoint := os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        spec["endpoint"] = endpoint
    if region := os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"):
        spec["aws_region"] = region
    return spec


@functools.cache
def _teach_orbax_s3() -> None:
    """Lets Orbax write arrays to s3:// by TensorStore's own driver.

    Orbax 0.12.8 finds that driver for gs:// alone; of s3://BUCKET it makes a relative path, which
    it then refuses. All else of Orbax takes either address. These functions are private to it.
    """
    from orbax.checkpoint._src.path import gcs_utils
    from orbax.checkpoint._src.serialization import tensorstore_utils

    normalise, is_remote = tensorstore_utils._normalize_path, tensorstore_utils._use_gcs_driver
    gcs_spec = gcs_utils.get_kvstore_for_gcs
    tensorstore_utils._normalize_path = lambda path: (
        "s3://" + os.path.normpath(path.removeprefix("s3://"))
        if path.startswith("s3://")
        else normalise(path)
    )
    tensorstore_utils._use_gcs_driver = lambda path: path.startswith("s3://") or is_remote(path)
    gcs_utils.get_kvstore_for_gcs = lambda path: (
        _s3_spec(path) if path.startswith("s3://") else gcs_spec(path)
    )
