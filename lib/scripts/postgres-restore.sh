# Verbs that put databases back into a PostgreSQL server, besides those of postgres.sh, which ask it.
# tools: sh sleep psql pg_dump pg_dumpall pg_restore
# shellcheck shell=sh
#
# PGHOST, PGPORT, PGUSER, PGPASSWORD  the server, and a superuser of it
# PGDATABASE                          a database that is not restored

# A database may be read-only by a setting of its own, which holds for whoever restores it too.
PGOPTIONS='-c default_transaction_read_only=off'
export PGOPTIONS

# shellcheck source=lib/scripts/postgres.sh
. "${ENGINE_SCRIPT%/*}/postgres.sh"

# What the archive on standard input holds, one line each; with the database itself.
verb_list() {
  pg_restore --list --create
}

# Lines of a list, for the verbs that work on a part of an archive.
verb_choose() {
  while IFS= read -r line; do printf '%s\n' "$line"; done > "$EXCHANGE/chosen"
}

# Prints what was chosen of the archive as SQL, without rows; with what makes the database itself and sets its properties.
verb_describe() {
  pg_restore --create --schema-only --use-list="$EXCHANGE/chosen" --file=-
}

# Restores the archive into a database that is there. "$1" is a connection string with its name.
# pg_restore reads no further than it must, and the input has proven whole only at its end.
verb_restore() {
  pg_restore --no-password --dbname="$1" --exit-on-error
  while IFS= read -r _; do :; done
}

# As verb_restore, of what was chosen alone.
verb_restore_chosen() {
  pg_restore --no-password --dbname="$1" --exit-on-error --use-list="$EXCHANGE/chosen"
  while IFS= read -r _; do :; done
}

# "$1" is a database, a space, a schema of it, a space, and the database that is given a copy of the schema; whole, or not at all.
verb_copy() {
  rest=${1#* }
  ended="$EXCHANGE/pg_dump"
  : > "$ended"
  {
    echo 'BEGIN;'
    PGDATABASE=${1%% *} pg_dump --no-password --quote-all-identifiers --schema="${rest%% *}" && status=0 || status=$?
    echo "$status" > "$ended"
    # The transaction of a copy that broke off is never committed.
    if [ "$status" = 0 ]; then echo 'COMMIT;'; fi
  } | session "${rest#* }" --file=-
  read -r status < "$ended"
  return "$status"
}
