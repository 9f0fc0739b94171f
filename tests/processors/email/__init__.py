"""Tests of the email processor and of the mail server it is tested with."""
