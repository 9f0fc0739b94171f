#!/bin/sh
# Starts Redis with a user for each role: redis-with-users.sh ROLES ACLFILE redis-server ARGUMENT...
#
# ROLES is docs/operate/users.acl, in which every user is off; ACLFILE is written from it. The passwords come from the
# environment, and only their hashes are written. A missing password ends it with 78 and a line on standard error.
set -eu
umask 077

roles=$1 file=$2
shift 2

digest() { # VARIABLE
    eval "password=\${$1:-}"
    if [ "${#password}" -lt 16 ]; then
        echo "error: $1 is missing or shorter than 16 characters; set it to: openssl rand -hex 24" >&2
        exit 78
    fi
    printf %s "$password" | sha256sum | cut -d' ' -f1
}

publisher=$(digest REDIS_PUBLISHER_PASSWORD)
processor=$(digest REDIS_PROCESSOR_PASSWORD)
operator=$(digest REDIS_OPERATOR_PASSWORD)
if [ "$publisher" = "$processor" ] || [ "$publisher" = "$operator" ] || [ "$processor" = "$operator" ]; then
    echo "error: two roles have the same password; each needs its own" >&2
    exit 78
fi

sed -e "s/^user publisher off/user publisher on #$publisher/" \
    -e "s/^user processor off/user processor on #$processor/" \
    -e "s/^user operator off/user operator on #$operator/" \
    -e "s/{planning-bord:/{${QUEUE_PREFIX:-planning-bord}:/g" "$roles" >"$file"
unset REDIS_PUBLISHER_PASSWORD REDIS_PROCESSOR_PASSWORD REDIS_OPERATOR_PASSWORD password
exec "$@" --aclfile "$file"
