"""The steps of an exchange, each a file with one function of the same name. Their order is in `dialogue.manager`.

A step takes the exchange and what follows it, and yields replies: its own, those of what follows, or both.
"""
