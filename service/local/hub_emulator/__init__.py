"""The local Hub: to Hugging Face what a local emulator is to a cloud.

It speaks the Hub's own contract on the loopback address, runs jobs as real processes of this
machine, says in a header what it is, and has no endpoint that the Hub lacks but those under
`/_emulator/`, for tests. What it knows is kept in memory: a restart forgets its jobs, as it kills
them, and who has signed in. Start reading at `service.local.hub_emulator.app`.
"""
