"""How much memory this process has taken."""

from tonnage.core.ledger import ProcessLedger
from tonnage.core.record import record
from tonnage.machine.host_files import HostFiles, kibibytes


def rss_bytes() -> int:
    """Return the bytes that are resident now (VmRSS of proc_pid_status(5)), 0 where unknown."""
    return kibibytes(HostFiles().fields("/proc/self/status").get("VmRSS", "")) or 0


def peak_rss_bytes() -> int:
    """Return the most bytes that were resident at once since this process began.

    VmHWM of proc_pid_status(5); where that is missing ru_maxrss, which a forked process starts with
    its parent's.
    """
    peak = kibibytes(HostFiles().fields("/proc/self/status").get("VmHWM", ""))
    if peak is None:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    return peak


def file_and_shared_bytes() -> int:
    """Return the resident bytes that are pages of files (the interpreter's and libraries')."""
    status = HostFiles().fields("/proc/self/status")
    return sum(kibibytes(status.get(name, "")) or 0 for name in ("RssFile", "RssShmem"))


def anonymous_bytes() -> int:
    """Return the resident bytes that are no file's."""
    return kibibytes(HostFiles().fields("/proc/self/status").get("RssAnon", "")) or 0


@record
class Start:
    """The process before a model was opened, and what it was allowed then.

    resident_bytes, anonymous_bytes: without those of engines that are open already, which may come
    to beside_bytes; process: where they are counted. store_bytes: what keeping prefixes on disk
    has taken since.
    """

    process: ProcessLedger
    resident_bytes: int
    anonymous_bytes: int
    beside_bytes: int
    budget_bytes: int = 0
    store_bytes: int = 0

    @classmethod
    def of(cls, process: ProcessLedger) -> "Start":
        """Return how the process stands now."""
        others = process.beside()
        held, planned = (others.now_bytes, others.planned_bytes) if others else (0, 0)
        return cls(process, max(0, rss_bytes() - held), max(0, anonymous_bytes() - held), planned)
