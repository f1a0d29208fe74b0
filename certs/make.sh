#!/usr/bin/env bash
# Makes development certificates for the webhook: a CA and a leaf that it signs.
# See README.md beside this file. Nothing that it writes may be committed.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: certs/make.sh [--new-ca] [--days N] [SERVICE [NAMESPACE]]

Writes ca.crt, ca.key, tls.crt and tls.key to certs/out/ (or to $OUT).
The leaf is valid for SERVICE.NAMESPACE.svc, localhost and the loopback addresses.

  SERVICE     name of the webhook's Service    (default: outrigger)
  NAMESPACE   namespace of the webhook         (default: outrigger-system)
  --new-ca    replace the CA too; otherwise an existing one signs the new leaf
  --days N    how long the leaf is valid       (default: 30)
USAGE
}

fail() {
  printf 'certs/make.sh: %s\n' "$1" >&2
  exit 2
}

new_ca=false
days=30
names=()
while (($# > 0)); do
  case $1 in
    --new-ca) new_ca=true ;;
    --days)
      (($# > 1)) || fail "--days needs a number"
      days=$2
      shift
      ;;
    -h | --help)
      usage
      exit 0
      ;;
    -*) fail "unknown flag $1 (see --help)" ;;
    *) names+=("$1") ;;
  esac
  shift
done
((${#names[@]} <= 2)) || fail "expected at most SERVICE and NAMESPACE, got: ${names[*]}"

service=${names[0]:-outrigger}
namespace=${names[1]:-outrigger-system}
label='^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$'
# Both land in an openssl configuration file, where a comma or a newline would be structure.
[[ $service =~ $label ]] || fail "SERVICE is not a DNS label: $service"
[[ $namespace =~ $label ]] || fail "NAMESPACE is not a DNS label: $namespace"
[[ $days =~ ^[1-9][0-9]{0,3}$ ]] || fail "--days is not a number from 1 to 9999: $days"
command -v openssl >/dev/null || fail "openssl is not on the PATH"

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${OUT:-$here/out}
umask 077
mkdir -p "$out"
work=$(mktemp -d "$out/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT

# Configuration files instead of -addext: LibreSSL, which macOS ships, reads them too.
if $new_ca || [[ ! -f $out/ca.key || ! -f $out/ca.crt ]]; then
  cat >"$work/ca.cnf" <<'CNF'
[req]
prompt = no
distinguished_name = name
x509_extensions = extensions
[name]
CN = Outrigger development CA
[extensions]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
CNF
  openssl ecparam -name prime256v1 -genkey -noout -out "$work/ca.key"
  openssl req -x509 -new -sha256 -days 365 -config "$work/ca.cnf" \
    -key "$work/ca.key" -out "$work/ca.crt"
  mv "$work/ca.key" "$out/ca.key"
  mv "$work/ca.crt" "$out/ca.crt"
fi

# No CN: the API server has looked only at subject alternative names since 1.19.
cat >"$work/leaf.cnf" <<CNF
[req]
prompt = no
distinguished_name = name
[name]
O = Outrigger development
[extensions]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:$service.$namespace.svc, DNS:localhost, IP:127.0.0.1, IP:::1
CNF
openssl ecparam -name prime256v1 -genkey -noout -out "$work/tls.key"
openssl req -new -sha256 -config "$work/leaf.cnf" -key "$work/tls.key" -out "$work/tls.csr"
openssl x509 -req -sha256 -days "$days" -in "$work/tls.csr" \
  -CA "$out/ca.crt" -CAkey "$out/ca.key" -set_serial "0x$(openssl rand -hex 16)" \
  -extfile "$work/leaf.cnf" -extensions extensions -out "$work/tls.crt" 2>/dev/null
mv "$work/tls.key" "$out/tls.key"
mv "$work/tls.crt" "$out/tls.crt"
chmod 644 "$out/ca.crt" "$out/tls.crt"

openssl verify -CAfile "$out/ca.crt" -purpose sslserver \
  -verify_hostname "$service.$namespace.svc" "$out/tls.crt" >/dev/null \
  || fail "the new leaf does not verify against $out/ca.crt; try --new-ca"

printf 'wrote ca.crt, ca.key, tls.crt and tls.key to %s (leaf: %s.%s.svc, %s days)\n' \
  "$out" "$service" "$namespace" "$days"
