"""The local Hub as an OAuth 2.1 and OpenID Connect server, for MCP clients that sign in.

    register ──▶ authorize ──▶ consent ──▶ code ──▶ access and refresh token ──▶ refresh …
    (clients)    (authorize)   (page)      (grants)  (grants, signed by keys)

Whoever sits at this machine is taken for one of the local users, by a hint; nothing asks for a
password. No web page can press the button, but any program can that runs on this machine, for any
account and be it a job: this is no place for secrets.

What is not known of the Hub's behaviour is said where it was decided.
"""
