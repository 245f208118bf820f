"""What the HTTP server refuses before the app sees it, in the words of the app."""

import uuid
from collections.abc import Iterable
from typing import Any

from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer
from waitress.task import ErrorTask

from serving import errors, schemas


def answer_in_json(sockets: Iterable[Any]) -> None:
    """Has the servers among waitress's sockets answer their own refusals as ``schemas.ErrorAnswer``."""
    for server in sockets:
        if isinstance(server, BaseWSGIServer):
            server.channel_class = _Channel


class _JsonErrorTask(ErrorTask):
    def execute(self) -> None:
        error, request_id = self.request.error, uuid.uuid4().hex
        message = f"{error.reason}: {error.body}."
        said = schemas.Error(
            code=errors.code_of(error.code), message=message, field=None, request_id=request_id
        )
        body = schemas.ErrorAnswer(error=said).model_dump_json().encode()
        self.status = f"{error.code} {error.reason}"
        self.response_headers += [("Content-Type", "application/json"), ("X-Request-Id", request_id)]
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Channel(HTTPChannel):
    error_task_class = _JsonErrorTask
