# Read by start_head.sh and start_worker.sh: what head and workers must agree on.
FOLDER=$(cd "$(dirname "$0")/.." && pwd)
PATH=$FOLDER/.venv/bin:$PATH  # `python` in a job's entrypoint is found here
HEAD_PORT=${HEAD_PORT:-6379}
NODE_PORTS="--node-manager-port $((HEAD_PORT + 1)) --object-manager-port $((HEAD_PORT + 2))
    --runtime-env-agent-port $((HEAD_PORT + 3)) --dashboard-agent-grpc-port $((HEAD_PORT + 4))
    --dashboard-agent-listen-port $((HEAD_PORT + 5)) --metrics-export-port $((HEAD_PORT + 6))
    --min-worker-port $((HEAD_PORT + 10)) --max-worker-port $((HEAD_PORT + 300))"

RAY_AUTH_MODE=token
RAY_AUTH_TOKEN_PATH=${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}
RAY_USAGE_STATS_ENABLED=0
RAY_TRAIN_V2_ENABLED=1
RAY_gcs_rpc_server_reconnect_timeout_s=${RAY_gcs_rpc_server_reconnect_timeout_s:-120}  # so long workers wait for a head
unset RAY_ADDRESS RAY_AUTH_TOKEN
export PATH RAY_AUTH_MODE RAY_AUTH_TOKEN_PATH RAY_USAGE_STATS_ENABLED RAY_TRAIN_V2_ENABLED
export RAY_gcs_rpc_server_reconnect_timeout_s

TLS_FOLDER=${HELIOSTAT_TLS_FOLDER:-$HOME/.heliostat/tls}
if [ -s "$TLS_FOLDER/tls.crt" ]; then  # made by make_certificate.sh; all nodes have one, or none
    RAY_USE_TLS=1
    RAY_TLS_SERVER_CERT=$TLS_FOLDER/tls.crt
    RAY_TLS_SERVER_KEY=$TLS_FOLDER/tls.key
    RAY_TLS_CA_CERT=$TLS_FOLDER/ca.crt
    export RAY_USE_TLS RAY_TLS_SERVER_CERT RAY_TLS_SERVER_KEY RAY_TLS_CA_CERT
fi
