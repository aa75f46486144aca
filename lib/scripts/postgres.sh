# Verbs of PostgreSQL.
# tools: sh psql pg_dump pg_dumpall pg_restore
# shellcheck shell=sh
#
# PGHOST, PGPORT, PGUSER, PGPASSWORD  the server; the programs read them from the environment themselves
# PGDATABASE                          where the server itself is asked, "postgres" by default

: "${PGCONNECT_TIMEOUT:=30}"
export PGAPPNAME=cdktf-backup PGCONNECT_TIMEOUT

# A name reaches psql and pg_dump as PGDATABASE and never as an argument: there, "a=b" and "postgres://" are connection strings.
session() {
  PGDATABASE=${1:-${PGDATABASE:-postgres}}
  export PGDATABASE
  shift
  psql --no-psqlrc --no-password --quiet --no-align --tuples-only --set=ON_ERROR_STOP=1 "$@"
}

# Version of the dump program.
verb_version() {
  pg_dump --version
}

# "$1" is a database, or empty. A psql script on standard input; what it selects on standard output.
verb_query() {
  session "$1" --file=-
}

# "$1" is the largest table to count, in bytes, a space, and a database. The script on standard input tells the facts.
verb_facts() {
  session "${1#* }" --set=exact="${1%% *}" --command='BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY' --file=- --command=COMMIT
}

# As verb_facts; after the facts comes the archive of the same snapshot, whose name the script has put into SNAPSHOT.
# psql before version 16 does not tell how a program that it ran has ended.
verb_dump() {
  export ENDED="$EXCHANGE/pg_dump"
  : > "$ENDED"
  # shellcheck disable=SC2016
  session "${1#* }" --set=exact="${1%% *}" --command='BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY' --file=- \
    --command='\! pg_dump --no-password --format=custom --compress=0 --quote-all-identifiers --snapshot="$SNAPSHOT"; echo "$?" > "$ENDED"' \
    --command=COMMIT
  read -r status < "$ENDED"
  return "$status"
}

# Roles without their passwords, tablespaces, and what is granted on them.
verb_globals() {
  pg_dumpall --no-password --database="${PGDATABASE:-postgres}" --globals-only --no-role-passwords --quote-all-identifiers
}

# Decodes the archive on standard input and prints what it holds as SQL: rows, sequences' values, large objects.
# pg_restore reads no further than it must, and the input has proven whole only at its end.
verb_decode() {
  pg_restore --data-only --file=-
  while IFS= read -r _; do :; done
}
