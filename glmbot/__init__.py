"""glmbot: a chat model that its operator runs, in the places where people already talk."""

__version__ = "0.1.0"
