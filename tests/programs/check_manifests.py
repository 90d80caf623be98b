"""Holds Kubernetes manifests to their schemas: python tests/programs/check_manifests.py FILE...

Kubernetes' own are those of kubernetes-validate, strict, so that a misspelt field is an error. A
JobSet is not one of them: its own fields are below, from its API (jobset.x-k8s.io/v1alpha2), and
each Job that it makes is checked as one of Kubernetes.
"""

import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

KUBERNETES = "1.34"  # the oldest with TPU7x on GKE


def _fields(required: list[str] = (), **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "required": list(required),
        "properties": properties,
        "additionalProperties": False,
    }


_COUNT = {"type": "integer", "minimum": 0}
_TEXT = {"type": "string"}
_TEXTS = {"type": "array", "items": _TEXT}
_ACTIONS = [
    *("FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"),
    *("RestartJob", "RestartJobAndIgnoreMaxRestarts"),
]
_JOBSET = _fields(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "jobset.x-k8s.io/v1alpha2"},
    kind={"const": "JobSet"},
    metadata={"type": "object", "required": ["name"]},
    spec=_fields(
        ["replicatedJobs"],
        suspend={"type": "boolean"},
        ttlSecondsAfterFinished=_COUNT,
        network=_fields(
            enableDNSHostnames={"type": "boolean"},
            publishNotReadyAddresses={"type": "boolean"},
            subdomain=_TEXT,
        ),
        failurePolicy=_fields(
            maxRestarts=_COUNT,
            restartStrategy={"enum": ["Recreate", "BlockingRecreate", "InPlaceRestart"]},
            rules={
                "type": "array",
                "items": _fields(
                    ["name", "action"],
                    name={"pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"},
                    action={"enum": _ACTIONS},
                    onJobFailureReasons=_TEXTS,
                    onJobFailureMessagePatterns=_TEXTS,
                    targetReplicatedJobs=_TEXTS,
                ),
            },
        ),
        replicatedJobs={
            "type": "array",
            "minItems": 1,
            "items": _fields(
                ["name", "template"], name=_TEXT, replicas=_COUNT, template={"type": "object"}
            ),
        },
    ),
)


def check(manifest: dict[str, Any]) -> None:
    """Raises an error that names the field, where a manifest is not what its schema says."""
    if manifest.get("kind") != "JobSet":
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
        return
    jsonschema.validate(manifest, _JOBSET)
    for job in manifest["spec"]["replicatedJobs"]:
        template = {"metadata": {"name": job["name"]}} | job["template"]
        kubernetes_validate.validate(
            {"apiVersion": "batch/v1", "kind": "Job"} | template, KUBERNETES, strict=True
        )


def main(paths: list[str]) -> None:
    for path in paths:
        for manifest in yaml.safe_load_all(Path(path).read_text()):
            try:
                check(manifest)
            except jsonschema.ValidationError as error:
                sys.exit(f"{path}: {'.'.join(map(str, error.path))}: {error.message}")
    print(f"{len(paths)} manifests are as their schemas say")


if __name__ == "__main__":
    main(sys.argv[1:])
