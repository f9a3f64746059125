"""Cookies, of which there must be none where one session calls for many people.

What the Hub remembers of one caller by a cookie would go along with the next one's token.
"""

from http.cookiejar import CookieJar, DefaultCookiePolicy


def none() -> CookieJar:
    """Make a jar that takes no cookie, from whomever."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=[]))
