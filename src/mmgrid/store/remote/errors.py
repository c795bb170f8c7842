"""One clear line for whatever goes wrong between this machine and an object store, with what to do.

The libraries behind fsspec raise errors of their own kinds. They are told apart by the names of their types, so that none
of the libraries needs to be there.
"""

import contextlib
import errno
from collections.abc import Iterator

from mmgrid.files.disk import chain
from mmgrid.machine.unspoken import unspoken

_CREDENTIALS = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "ProfileNotFound",
    "TokenRetrievalError",
    "SSOTokenLoadError",
    "UnauthorizedSSOTokenError",
    "DefaultCredentialsError",
    "RefreshError",
}
_CONNECTION = {
    "EndpointConnectionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "ConnectionClosedError",
    "HTTPClientError",
    "ClientConnectorError",
    "ClientConnectorDNSError",
    "ServerDisconnectedError",
    "ClientOSError",
    "ClientPayloadError",
    "TransportError",
    "gaierror",
}
_NAME = ("invalid bucket name", "invalidbucketname", "parameter validation failed", "bucket name")
_AGAIN = "what has arrived is kept: run the same command again later"
LOG_IN = (
    "give the credentials as its own tools take them (for S3 AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; "
    "for Google Cloud `gcloud auth application-default login`, or GOOGLE_APPLICATION_CREDENTIALS)"
)


class RemoteError(RuntimeError):
    """A remote store cannot be read or written; the message says why, and what to do."""


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """A transfer ends, since another one failed or the user asked for it."""


@contextlib.contextmanager
def clear_remote_errors(shown: str, *passing: type[Exception]) -> Iterator[None]:
    """Within this context, which does nothing but ask a remote store, every error is a `RemoteError`.

    Args:
        shown: the address, as it may be printed.
        passing: errors that pass unchanged; `Stopped` is always one of them.
    """
    try:
        yield
    except (RemoteError, Stopped, *passing):
        raise
    except Exception as error:
        raise RemoteError(f"{shown}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    causes = list(chain(error))
    kinds = [{base.__name__ for base in type(cause).__mro__} for cause in causes]
    if any(kind & _CREDENTIALS for kind in kinds):
        return f"no valid credentials are found: {LOG_IN}"
    for cause in causes:
        text = str(cause).lower()
        if any(words in text for words in _NAME) and not isinstance(cause, FileNotFoundError):
            return f"the name is not allowed ({_first_line(cause)}): correct it"
        code = getattr(cause, "code", None)
        if isinstance(cause, PermissionError) or code in (401, 403):
            return f"access is refused ({_first_line(cause)}): get the right to it, or {LOG_IN}"
        if isinstance(cause, FileNotFoundError) or code == 404:
            return (
                f"there is no such bucket or folder ({_first_line(cause)}): correct the address, or create the bucket"
            )
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"no room is left there; {_AGAIN}, when there is"
        if isinstance(cause, OSError) and cause.errno == errno.EROFS:
            return "nothing can be written there: it is read-only"
        if isinstance(cause, NotImplementedError):
            return "stores of this kind cannot be listed or written; use s3://, gs:// or another object store"
    if any(kind & _CONNECTION for kind in kinds) or any(
        isinstance(cause, ConnectionError | TimeoutError) for cause in causes
    ):
        return f"cannot be reached ({_first_line(error)}): check the network and the address; {_AGAIN}"
    return f"the request failed ({_first_line(error)}); {_AGAIN}"


def _first_line(error: object) -> str:
    text = " ".join(unspoken(error).split())
    return text if text else type(error).__name__
