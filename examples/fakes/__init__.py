"""What stands in for systems that Planning Bord does not own: a mail server, a supplier's system, a trace collector.

The demo, the examples and the tests share them. Each listens on the loopback interface only.
"""
