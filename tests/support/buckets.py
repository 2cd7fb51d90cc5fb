"""A local object store: moto's S3, which can be told to fail for a while."""

import logging
from threading import Lock, Thread

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

SECRET = "no-log-may-hold-this-secret"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "somebody",
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_REGION": "us-east-1",
    "AWS_ALLOW_HTTP": "true",
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false",
}


class Server:
    """Answers 503 to the next `failures` requests whose path ends in `suffix`."""

    def __init__(self):
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._app = DomainDispatcherApplication(create_backend_app)
        self._lock = Lock()
        self.failures, self.suffix, self.failed = 0, "", 0
        self._server = make_server("127.0.0.1", 0, self, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.port}"
        self._thread = Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def __call__(self, environ, start_response):
        with self._lock:
            fails = self.failures > 0 and environ["PATH_INFO"].endswith(self.suffix)
            self.failures -= fails
            self.failed += fails
        if fails:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response("503 Slow Down", [("Content-Length", "0")])
            return [b""]
        return self._app(environ, start_response)

    def fail(self, times, suffix=""):
        self.failures, self.suffix, self.failed = times, suffix, 0

    def stop(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
