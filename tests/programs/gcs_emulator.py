"""Run with a port: an emulator of Google Cloud Storage with one empty bucket.

A second argument is how many seconds it waits before each answer, as a distant bucket does.

gcp-storage-emulator tells no generation with an object's content and heeds no condition on it.
TensorStore writes by these, so that what they say of each request is added here, as it is in
https://cloud.google.com/storage/docs/json_api/v1/objects.
"""

import functools
import http.server
import sys
import time
from http import HTTPStatus

from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects
from gcp_storage_emulator.server import create_server

DISTANCE = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0


def generation(request, storage):
    """That of the object that a request names; 0 where there is none."""
    name = request.params.get("object_id") or request.query["name"][0]
    try:
        return int(storage.get_file_obj(request.params["bucket_name"], name)["generation"])
    except NotFound:
        return 0


def conditional(handler):
    @functools.wraps(handler)
    def checked(request, response, storage, *args, **kwargs):
        now = generation(request, storage)
        for condition, fits, status in (
            ("ifGenerationMatch", now.__eq__, HTTPStatus.PRECONDITION_FAILED),
            ("ifGenerationNotMatch", now.__ne__, HTTPStatus.NOT_MODIFIED),
        ):
            if condition in request.query and not fits(int(request.query[condition][0])):
                response.status = status
                return None
        if handler.__name__ == "download":
            time.sleep(DISTANCE)
            response["x-goog-generation"] = str(now)
        return handler(request, response, storage, *args, **kwargs)

    return checked


for name in ("download", "_media_upload"):
    setattr(objects, name, conditional(getattr(objects, name)))
http.server.HTTPServer.request_queue_size = 128  # of 5, most would wait for a second attempt
if DISTANCE:
    http.server.HTTPServer = http.server.ThreadingHTTPServer  # all wait at the same time
port = int(sys.argv[1])
create_server("127.0.0.1", port, in_memory=True, default_bucket="bucket").run()
