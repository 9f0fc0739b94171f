"""One module for each format of a report, loaded when it is asked for."""
