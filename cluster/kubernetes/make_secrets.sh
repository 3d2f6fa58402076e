#!/bin/sh
# Print the Secrets of namespace heliostat, with new random values, for kubectl; existing ones stay as they are:
#
#   AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=... cluster/kubernetes/make_secrets.sh | kubectl create -f -
#
# `create`, not `apply`, which would keep a copy of each value in an annotation. Nothing is printed to a terminal, and
# no value is an argument of a process.
set -eu
umask 077
if [ -t 1 ]; then
    echo "make_secrets.sh: this prints secrets; pipe it: cluster/kubernetes/make_secrets.sh | kubectl create -f -" >&2
    exit 2
fi
: "${AWS_ACCESS_KEY_ID:?set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to the keys of the bucket}"
: "${AWS_SECRET_ACCESS_KEY:?set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to the keys of the bucket}"

random() { head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }
quoted() { printf '%s' "$1" | sed "s/'/''/g; s/^/'/; s/\$/'/"; }  # printf is the shell's own: no process sees it
postgres=$(random)
redis=$(random)

cat <<EOF
apiVersion: v1
kind: Secret
metadata: {name: heliostat-ray-token, namespace: heliostat}
stringData:
  auth_token: '$(random)'
---
apiVersion: v1
kind: Secret
metadata: {name: heliostat-redis, namespace: heliostat}
stringData:
  password: '$redis'
  auth.conf: 'requirepass $redis'
---
apiVersion: v1
kind: Secret
metadata: {name: heliostat-postgres, namespace: heliostat}
stringData:
  password: '$postgres'
---
apiVersion: v1
kind: Secret
metadata: {name: heliostat-mlflow, namespace: heliostat}
stringData:
  backend-store-uri: 'postgresql+psycopg2://mlflow:$postgres@heliostat-postgres:5432/mlflow'
  control-database: 'postgresql+psycopg://mlflow:$postgres@heliostat-postgres:5432/mlflow'
---
apiVersion: v1
kind: Secret
metadata: {name: heliostat-object-store, namespace: heliostat}
stringData:
  AWS_ACCESS_KEY_ID: $(quoted "$AWS_ACCESS_KEY_ID")
  AWS_SECRET_ACCESS_KEY: $(quoted "$AWS_SECRET_ACCESS_KEY")
---
apiVersion: v1
kind: Secret
metadata: {name: heliostat-dashboard, namespace: heliostat}
stringData:
  password: '$(random)'
---
apiVersion: v1
kind: Secret
metadata: {name: heliostat-gateway-key, namespace: heliostat}
stringData:
  key: '$(random)'  # what endpoints with api_key_file: /run/secrets/gateway/key ask for, and Prometheus sends
---
apiVersion: v1
kind: Secret
metadata: {name: heliostat-grafana, namespace: heliostat}
stringData:
  password: '$(random)'
EOF
