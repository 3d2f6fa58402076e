#!/bin/sh
# Join this machine to a cluster, in the foreground: Ctrl-C or `kill PID` takes it out again.
#
#   cluster/start_worker.sh HEAD_HOST [ray start options ...]
#
# Needs the head's token file at the same place (~/.ray/auth_token, or RAY_AUTH_TOKEN_PATH) and the same HEAD_PORT.
set -eu
. "$(dirname "$0")/environment.sh"

HEAD_HOST=${1:?usage: cluster/start_worker.sh HEAD_HOST [ray start options ...]}
shift
if [ ! -r "$RAY_AUTH_TOKEN_PATH" ]; then
    echo "$RAY_AUTH_TOKEN_PATH: no token here; copy the head's file to it (mode 0600)" >&2
    exit 2
fi
echo "Ray worker node, process $$ (kill $$ stops it)."
exec ray start --block --address "$HEAD_HOST:$HEAD_PORT" $NODE_PORTS "$@"
