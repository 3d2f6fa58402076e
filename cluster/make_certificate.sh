#!/bin/sh
# Make this machine's certificate for TLS between Ray's nodes, and the authority that signs it where there is none:
#
#   cluster/make_certificate.sh [ADDRESS ...]
#
# The certificate is good for localhost, 127.0.0.1 and the addresses given (else the machine's own). Ray checks a
# node's address against it, so each node needs one of its own, signed by the same authority: copy ca.crt and ca.key
# to the others, run this there, and take ca.key away again. Where: $HELIOSTAT_TLS_FOLDER, else ~/.heliostat/tls.
# start_head.sh and start_worker.sh switch TLS on when they find tls.crt there. DAYS (365) is how long it is good.
set -eu
umask 077
FOLDER=${HELIOSTAT_TLS_FOLDER:-$HOME/.heliostat/tls}
DAYS=${DAYS:-365}
mkdir -p "$FOLDER"
chmod 700 "$FOLDER"

if [ ! -s "$FOLDER/ca.crt" ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -sha256 \
        -subj "/CN=Heliostat cluster" -addext "basicConstraints=critical,CA:TRUE,pathlen:0" \
        -addext "keyUsage=critical,keyCertSign,cRLSign" \
        -keyout "$FOLDER/ca.key" -out "$FOLDER/ca.crt" 2>/dev/null
fi
if [ ! -s "$FOLDER/ca.key" ]; then
    echo "$FOLDER/ca.key: not here; copy the authority's key to it to sign a certificate, then take it away" >&2
    exit 2
fi
chmod 600 "$FOLDER"/ca.*

NAMES="DNS:localhost,IP:127.0.0.1"
for ADDRESS in ${*:-$(hostname -I)}; do
    case $ADDRESS in
        *[!0-9a-fA-F.:]*) NAMES="$NAMES,DNS:$ADDRESS" ;;
        *.*.*.*|*:*) NAMES="$NAMES,IP:$ADDRESS" ;;
        *) NAMES="$NAMES,DNS:$ADDRESS" ;;
    esac
done

printf '%s\n' "subjectAltName=$NAMES" "basicConstraints=critical,CA:FALSE" \
    "keyUsage=critical,digitalSignature" "extendedKeyUsage=serverAuth,clientAuth" > "$FOLDER/tls.ext"
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=Heliostat node" \
    -keyout "$FOLDER/tls.key" -out "$FOLDER/tls.csr" 2>/dev/null
openssl x509 -req -in "$FOLDER/tls.csr" -CA "$FOLDER/ca.crt" -CAkey "$FOLDER/ca.key" -sha256 -days "$DAYS" \
    -set_serial "0x$(openssl rand -hex 16)" -extfile "$FOLDER/tls.ext" -out "$FOLDER/tls.crt" 2>/dev/null
rm -f "$FOLDER/tls.csr" "$FOLDER/tls.ext"
echo "$FOLDER/tls.crt: good for $NAMES, $DAYS days"
