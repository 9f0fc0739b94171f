"""The files of the processors: uploads, exports and reports, in directories or in S3, and signed links to them.

It is not a processor and knows none. `python -m processors.storage` serves the links to files in directories.
"""

from streams.errors import APPLICATION, extra

with extra("downloads", of=APPLICATION, for_="processors.storage"):
    from processors.storage.file_writer import FileWriter
    from processors.storage.settings import Area, StorageSettings
    from processors.storage.storage import Found, Storage
    from processors.storage.storages import Storages, open_storages

__all__ = ["Area", "FileWriter", "Found", "Storage", "StorageSettings", "Storages", "open_storages"]
