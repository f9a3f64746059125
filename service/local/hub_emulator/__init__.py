"""An emulator of the Hugging Face Hub, for the demo, for `holdfast up` and for tests.

It speaks the Hub's own API on the loopback address, runs jobs as real processes of this machine,
and says in a header of each answer what it is. It has no endpoint that the Hub lacks, except those
under `/_emulator/`, which are for tests. Jobs and sign-ins are in memory only: a restart kills the
jobs and forgets both. Start reading at `service.local.hub_emulator.app`.
"""
