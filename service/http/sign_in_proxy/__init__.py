"""Sign-in proxy: lets MCP clients sign in at an authorization server that does not know them.

The operator makes one application there. Clients register here, and every sign-in is one of that
application's, after the person has agreed to the client on a page of ours.
"""
