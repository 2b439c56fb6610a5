"""Turns what Python's archive modules raise for packages that cannot be unpacked into words."""

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from infermesh_client.model_import.staging import explain_os_error
from infermesh_runtime.errors import InvalidArgument


@contextmanager
def explained(archive: str) -> Iterator[None]:
    """Wraps the unpacking of an archive.

    Raises InvalidArgument when it is damaged, encrypted or compressed in a way that Python does not know, and
    ResourceExhausted or FailedPrecondition when the system refuses to read or write.
    """
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, ValueError) as error:
        raise InvalidArgument(f"{archive} is damaged: {error}") from error
    except OSError as error:
        if error.errno is None:  # of gzip and bz2, not of the system
            raise InvalidArgument(f"{archive} is damaged: {error}") from error
        raise explain_os_error(error) from error
    except RuntimeError as error:  # zipfile: a member is encrypted; NotImplementedError: an unknown compression
        raise InvalidArgument(f"{archive} cannot be unpacked: {error}") from error
