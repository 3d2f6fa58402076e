#!/bin/sh
# Start a Ray head node with token authentication, in the foreground: Ctrl-C or `kill PID` ends it.
#
#   cluster/start_head.sh [HOST] [ray start options ...]
#
# HOST is the address other nodes reach this one at; when it is left out, or loopback, Ray takes the machine's
# own. Ports: HEAD_PORT (6379) and the 300 above it between nodes; DASHBOARD_PORT (8265), on 127.0.0.1 only, for
# jobs and the dashboard. With RAY_REDIS_ADDRESS (host:port) and RAY_REDIS_PASSWORD the head's tables are in that
# Redis: started again with the same, a head that was lost knows its jobs and its workers. On the head machine the
# password is seen in Ray's own commands.
set -eu
. "$(dirname "$0")/environment.sh"

HOST=127.0.0.1
case "${1:--}" in -*) ;; *) HOST=$1; shift ;; esac
DASHBOARD_PORT=${DASHBOARD_PORT:-8265}

if [ ! -s "$RAY_AUTH_TOKEN_PATH" ]; then
    (umask 077 && mkdir -p "$(dirname "$RAY_AUTH_TOKEN_PATH")" &&
        head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' > "$RAY_AUTH_TOKEN_PATH")
fi
chmod 600 "$RAY_AUTH_TOKEN_PATH"
if [ -n "${RAY_REDIS_PASSWORD:-}" ]; then
    set -- "$@" --redis-password "$RAY_REDIS_PASSWORD"
    unset RAY_REDIS_PASSWORD  # jobs on the head need not have it
fi

cat <<EOF
Ray head node, process $$ (kill $$ stops it). On a laptop, with this machine's token file copied to
~/.ray/auth_token:
  ssh -N -L 8265:127.0.0.1:$DASHBOARD_PORT $(hostname)
  heliostat submit jobs/recipes/quickstart.yaml --address http://127.0.0.1:8265 --workspace PATH_ALL_NODES_REACH
EOF
exec ray start --head --block --node-ip-address "$HOST" --port "$HEAD_PORT" \
    --dashboard-host 127.0.0.1 --dashboard-port "$DASHBOARD_PORT" \
    --ray-client-server-port "$((HEAD_PORT + 7))" $NODE_PORTS "$@"
