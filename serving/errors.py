"""Errors that a client may see: a status, a code for programs, a sentence for people, the field."""


class ApiError(Exception):
    """An answer other than success.

    Attributes:
      status: the HTTP status.
      code: a short name for programs; stable.
      message: one sentence for people.
      field: the request's field at fault, None where it is not one field.
      retry_after_s: when it is worth trying again, None where it is not.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        field: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.field = field
        self.retry_after_s = retry_after_s


def code_of(status: int) -> str:
    """The code of what HTTP itself refuses: unknown paths, wrong methods, bodies that are too large."""
    named = {
        404: "not_found",
        405: "method_not_allowed",
        413: "body_too_large",
        431: "headers_too_large",
        500: "internal_error",
        501: "not_implemented",
    }
    return named.get(status, "bad_request")


def queue_full(size: int) -> ApiError:
    return ApiError(503, "queue_full", f"{size} requests are waiting already.", retry_after_s=1)


def shutting_down() -> ApiError:
    return ApiError(503, "shutting_down", "The server is stopping.", retry_after_s=5)


def not_loaded() -> ApiError:
    return ApiError(503, "model_not_loaded", "No model is loaded yet.", retry_after_s=5)


def deadline_exceeded() -> ApiError:
    return ApiError(
        504, "deadline_exceeded", "The request waited longer than its deadline and was not computed."
    )


def too_many_clients(limit: int) -> ApiError:
    return ApiError(
        429,
        "too_many_clients",
        f"{limit} clients hold a state already; reset one or wait.",
        "client_id",
        retry_after_s=30,
    )


def wrong_task(task: str) -> ApiError:
    return ApiError(404, "wrong_task", f"The loaded policy's task is {task!r}, which has no such answer.")


def unknown_instruction(message: str, field: str) -> ApiError:
    return ApiError(422, "unknown_instruction", message, field)


def invalid_field(message: str, field: str | None) -> ApiError:
    return ApiError(422, "invalid_field", message, field)


class ModelReplacedError(Exception):
    """The model was swapped between reading its specification and handing in the request."""
