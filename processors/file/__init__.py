"""The file processor: imports stock from CSV files, exports it as CSV, JSON, NDJSON, XLSX and Parquet."""

from processors.file.handlers import file
from processors.file.refused import FileRefused
from processors.file.uploading import store_upload

__all__ = ["FileRefused", "file", "store_upload"]
