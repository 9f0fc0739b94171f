"""Programs that tests run as processes of their own, each as `python -m tests.support.programs.NAME`."""
