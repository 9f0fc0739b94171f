"""The report processor: what is in stock, what was sold and what to order, as CSV, XLSX, HTML and PDF."""

from streams.errors import APPLICATION, extra

with extra("report", of=APPLICATION, for_="processors.report"):
    from processors.report.handlers import report
    from processors.report.refused import ReportRefused

__all__ = ["ReportRefused", "report"]
