"""The file processor: imports stock from CSV files, exports it as CSV, JSON, NDJSON, XLSX and Parquet."""

from streams.errors import APPLICATION, extra

with extra("file", of=APPLICATION, for_="processors.file"):
    from processors.file.handlers import file
    from processors.file.refused import FileRefused
    from processors.file.uploading import store_upload

__all__ = ["FileRefused", "file", "store_upload"]
