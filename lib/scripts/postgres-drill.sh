# Verbs of a PostgreSQL server that is made for one drill, besides those of postgres.sh, which ask it.
# tools: sh sleep psql pg_dump pg_dumpall pg_restore initdb postgres pg_ctl
# shellcheck shell=sh
#
# WORK               directory for the server's data and its socket, on which alone it listens
# PRELOAD_LIBRARIES  value of shared_preload_libraries, for extensions that need it; may be unset

# The last word on where every program connects: nothing in the environment leads to another server.
unset PGHOST PGHOSTADDR PGPORT PGUSER PGPASSWORD
PGSERVICEFILE=$WORK/service
PGSERVICE=scratch
# The database that every server has, and that no dump is of.
PGDATABASE=template1
# A database may be read-only by a setting of its own, which holds for whoever restores it too.
PGOPTIONS='-c default_transaction_read_only=off'
export PGSERVICEFILE PGSERVICE PGDATABASE PGOPTIONS

# shellcheck source=lib/scripts/postgres.sh
. "${ENGINE_SCRIPT%/*}/postgres.sh"

# Runs a program, and prints what it and the server said where it fails.
told() {
  if ! "$@" > "$WORK/said" 2>&1; then
    for file in "$WORK/said" "$WORK/log"; do
      if [ -e "$file" ]; then while IFS= read -r line; do echo "$line" >&2; done < "$file"; fi
    done
    return 1
  fi
}

# Runs a program as a user that has a name, which initdb asks for and a pod's user need not have in the image. Debian's image has a
# library for that.
named() (
  while read -r key id _; do
    case $key in
      Uid:) uid=$id ;;
      Gid:) gid=$id ;;
    esac
  done < /proc/self/status
  echo "postgres:x:$uid:$gid::$WORK:/bin/sh" > "$WORK/passwd"
  echo "postgres:x:$gid:" > "$WORK/group"
  for wrapper in /usr/lib/*/libnss_wrapper.so; do
    if [ -e "$wrapper" ]; then export LD_PRELOAD="$wrapper" NSS_WRAPPER_PASSWD="$WORK/passwd" NSS_WRAPPER_GROUP="$WORK/group"; fi
  done
  exec "$@"
)

# "$1" is a name for the server, of letters, digits and "-", a space, and the name of its first role.
verb_start() {
  told named initdb --pgdata="$WORK/data" --username="${1#* }" --auth=trust --encoding=UTF8 --locale=C --no-sync
  {
    echo "cluster_name = '${1%% *}'"
    echo "listen_addresses = ''"
    echo "unix_socket_directories = '$WORK'"
    echo "shared_preload_libraries = '${PRELOAD_LIBRARIES:-}'"
    # It is thrown away.
    echo "fsync = off"
    echo "full_page_writes = off"
    echo "wal_level = minimal"
    echo "max_wal_senders = 0"
    echo "autovacuum = off"
    # A container has 64 MB of /dev/shm.
    echo "dynamic_shared_memory_type = mmap"
    # No tablespace is where it was at the source.
    echo "allow_in_place_tablespaces = on"
  } >> "$WORK/data/postgresql.conf"
  told pg_ctl start --silent --wait --timeout=300 --pgdata="$WORK/data" --log="$WORK/log"
  printf '[scratch]\nhost=%s\nuser=%s\n' "$WORK" "${1#* }" > "$PGSERVICEFILE"
}

# Makes the database of the archive on standard input, with all that is in it.
# pg_restore reads no further than it must, and the input has proven whole only at its end.
verb_restore() {
  pg_restore --no-password --dbname=template1 --create --exit-on-error
  while IFS= read -r _; do :; done
}
