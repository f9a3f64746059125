"""Child processes of the local stack: start, account, restart and end."""
