"""The OAuth 2.1 and OpenID Connect server of the emulated Hub, for MCP clients that sign in.

    register ──▶ authorize ──▶ consent ──▶ code ──▶ access and refresh token ──▶ refresh …
    (clients)    (authorize)   (page)      (grants)  (token, grants, signed by keys)

There are no passwords: the person at this machine counts as the local user that a hint names. No
web page can press the consent button. Any program on this machine can, of any account, also a job:
do not keep secrets here.

Where the Hub's behaviour is not documented, a comment says so at the place of our decision.
"""
