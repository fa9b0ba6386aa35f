"""satori-python's server with its own OneBot adapter, which connects to RIG_ONEBOT. Runs in the rig's environment."""

from __future__ import annotations

import os

from satori.adapters.onebot11.forward import OneBot11ForwardAdapter, OneBot11ForwardConfig
from satori.server import Server

server = Server(port=int(os.environ["RIG_PORT"]), path="satori", token=os.environ["RIG_TOKEN"])
server.apply(
    OneBot11ForwardAdapter(
        OneBot11ForwardConfig(os.environ["RIG_ONEBOT"], access_token=os.environ["RIG_ONEBOT_TOKEN"])
    )
)
server.run()
