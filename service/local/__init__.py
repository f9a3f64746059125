"""The local stack: Holdfast on one machine, with database servers and an emulated Hub.

Only `service.cli.local` imports this package, and the production image leaves it out.
"""
