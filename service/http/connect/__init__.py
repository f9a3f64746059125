"""Connecting an account at the Hub with a sign-in at an authorization server, once, in a browser.

    /connect ──▶ the authorization server ──▶ /connect/sign-in ──▶ the Hub ──▶ /connect/hugging-face
     (POST)       (who are you here?)          verified            (consent)       a page names both
                                                                                     │ POST
                                                     stored ◀── /connect/confirm ◀───┘

There is no link that somebody else could send: the browser that ends the flow is the one that began
it, it has signed in by itself, and nothing is stored before its person has seen both accounts.
"""
