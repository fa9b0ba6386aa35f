#!/bin/sh
# Programs that some tests drive: a real Redis server, a real browser, and bubblewrap. Where they can't be had, those tests
# are skipped and say so.
missing=""
command -v redis-server >/dev/null || missing="$missing redis-server"
command -v chromium >/dev/null || missing="$missing chromium"
command -v bwrap >/dev/null || missing="$missing bubblewrap"
[ -z "$missing" ] && exit 0
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null \
    && exit 0
fi
echo "NOTE: could not install:$missing. Tests that need them will be skipped; install them by hand."
