"""A lock on a file or directory. The system releases it when its holder ends, however it ends."""

import errno
import fcntl
import os
import weakref
from pathlib import Path

# Errors of file systems without locks, such as Lustre mounted without `flock`, and NFS for directories.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF)


class Lock:
    """An exclusive lock on an existing path. It writes nothing, so that nothing is left behind.

    Args:
        path: the file or directory. It must never be replaced: the lock belongs to what is there.
    """

    def __init__(self, path: Path):
        self.path = path

    def acquire(self) -> bool:
        """Take the lock, and return whether it was free. A file system without locks always is.

        Raises:
            OSError: if the file cannot be opened for writing, which NFS wants of those who lock.
        """
        descriptor = os.open(self.path, os.O_RDONLY if self.path.is_dir() else os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                return False
            if error.errno in _NO_LOCKS:
                return True
            raise
        self._close = weakref.finalize(self, os.close, descriptor)
        return True

    def release(self) -> None:
        """Give the lock back, if it is held."""
        if hasattr(self, "_close"):
            self._close()
