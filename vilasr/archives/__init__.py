"""Unpacking the published archives: every archive is checked before it is used, every file is whole or absent.

    stages         which archives are there, where they belong, which parts are missing
    zip_directory  what an archive says it holds
    layout         where its members go
    checks         what is refused for that
    records        what was unpacked before
    planning       what is left to do, and whether it fits
    member_data    the bytes of a member, checked
    files          writing whole files
    running        doing it, in threads
    progress       the line on the terminal
    unpacking      all of it

Needs nothing but Python's standard library, so it runs before anything is installed.
"""

from vilasr.archives.files import OutputError, StoppedError
from vilasr.archives.running import Stop
from vilasr.archives.unpacking import Options, Report, unpack

__all__ = ["Options", "OutputError", "Report", "Stop", "StoppedError", "unpack"]
