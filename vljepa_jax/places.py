"""Where files may lie: on a disk, or in a bucket."""

from __future__ import annotations

import re
from collections.abc import Collection

# At the beginning, and after what the flags put before a path: SPLIT=PATH and PATH,PATH. With one
# slash it is what a path made of an address.
_ADDRESS = re.compile(r"(?:^|[=,])((?:[A-Za-z][A-Za-z0-9+.-]*:/|gs:|s3:)/)")


def why_not(text: str, accepted: Collection[str] = ()) -> str:
    """Why files cannot lie there, in words that continue "'TEXT' "; "" where they can.

    Args:
        text: a path or an address, or several, as flags and recipes take them.
        accepted: beginnings of addresses that can be used, such as "gs://".
    """
    if all(address in accepted for address in _ADDRESS.findall(text)):
        return ""
    return (
        f"is an address, but this must lie {' or '.join(['on a disk', *accepted])}: mount the "
        "bucket (gcsfuse, Mountpoint for S3) or copy it, and give the path there"
    )
