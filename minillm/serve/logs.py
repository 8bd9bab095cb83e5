"""Log records as lines of JSON."""

import json
import logging
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager


class JSONFormatter(logging.Formatter):
    """Format a record as one line of JSON; the values of `extra={"fields": {...}}` are fields of it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        line = {"time": now, "level": record.levelname, "logger": record.name, "message": record.getMessage()}
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


@contextmanager
def log_to_stderr() -> Generator[None]:
    """Write warnings and errors of all packages, and the access log, to stderr inside the context."""
    root, access = logging.getLogger(), logging.getLogger("minillm.access")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONFormatter())
    root.addHandler(handler)
    access.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        access.setLevel(logging.NOTSET)
        root.removeHandler(handler)
