"""Files in directories and in S3."""
