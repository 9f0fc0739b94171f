"""The files of the processors: uploads, exports and reports, in directories or in S3, and signed links to them.

It is not a processor and knows none. `python -m processors.shared.storage` serves the links to files in directories.
"""

from streams.errors import APPLICATION, extra

with extra("downloads", of=APPLICATION, for_="processors.shared.storage"):
    from processors.shared.storage.file_writer import FileWriter
    from processors.shared.storage.settings import Area, StorageSettings
    from processors.shared.storage.storage import Found, Storage
    from processors.shared.storage.storages import Storages, open_storages

__all__ = ["Area", "FileWriter", "Found", "Storage", "StorageSettings", "Storages", "open_storages"]
